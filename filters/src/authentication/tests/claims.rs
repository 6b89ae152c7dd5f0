//! What a well-signed token must say, and how the caller is read from it.

use gapura_config::model::Claims;

use super::*;

fn user(payload: &str) -> Result<Arc<Principal>, Refusal> {
    bearer(&only(&secret_config()), &with_payload(payload))
}

fn from_claims(claims: Claims, payload: &str) -> Result<Arc<Principal>, Refusal> {
    bearer(&only(&model::Jwt { claims, ..secret_config() }), &with_payload(payload))
}

#[test]
fn a_good_token_gives_its_caller() {
    let more = r#","roles":["reader","größe"],"permissions":"PAY  REFUND","x":{"y":[1,2,{"z":null}]}"#;
    let principal = user(&payload(more)).unwrap();
    assert_eq!(&*principal.method, "jwt.users");
    assert_eq!(principal.user_id.as_str(), "u1");
    assert_eq!(principal.email.as_deref(), Some("a@b.c"));
    assert_eq!(principal.roles, ["reader", "größe"]);
    assert_eq!(principal.permissions, ["PAY", "REFUND"]);
    assert_eq!(principal.api_key, None);
}

#[test]
fn blanks_between_json_members_are_no_matter() {
    assert!(user(&format!(" {{ \"sub\" : \"u1\" ,\n \"exp\" : {} }} ", NOW + 1)).is_ok());
}

#[test]
fn the_user_id_is_a_string_or_a_whole_number() {
    let with = |id: &str| user(&format!(r#"{{"sub":{id},"exp":{}}}"#, NOW + 1));
    assert_eq!(with("7").unwrap().user_id, with("\"7\"").unwrap().user_id);
    assert!(with("7").unwrap().user_id.is_number() && !with("\"7\"").unwrap().user_id.is_number());
    assert_eq!(with("-7").unwrap().user_id.as_str(), "-7");
    assert_eq!(with("18446744073709551615").unwrap().user_id.as_str(), "18446744073709551615");
    for id in ["7.0", "7e0", "-0", "18446744073709551616", "true", "null", "[]", "[\"u1\"]", "{}"] {
        refused(with(id), "user id is neither");
    }
    for id in ["\"\"", "\" u1\"", "\"u1\\n\"", "\"u\\u0000\"", "\"u\\r\\nX-User-Roles: admin\"", "\"\\u0085\""] {
        refused(with(id), "user id holds a value");
    }
    refused(user(&format!(r#"{{"exp":{}}}"#, NOW + 1)), "no user id");
}

#[test]
fn other_identity_claims_of_another_type_refuse_the_token() {
    for email in ["7", "null", "[\"a@b.c\"]", "{}", "false"] {
        refused(user(&format!(r#"{{"sub":"u","exp":{},"email":{email}}}"#, NOW + 1)), "email is no string");
    }
    for list in ["7", "null", "true", "{}", "[1]", "[\"a\",null]", "[[\"a\"]]"] {
        refused(user(&payload(&format!(r#","roles":{list}"#))), "roles are neither");
        refused(user(&payload(&format!(r#","permissions":{list}"#))), "permissions are neither");
    }
    for list in [r#"["reader,admin"]"#, r#""a,b""#, r#"["a\n"]"#, r#"[""]"#, r#"[" a"]"#, r#""a\tb""#] {
        refused(user(&payload(&format!(r#","roles":{list}"#))), "roles holds a value");
    }
    let many = format!("[{}\"r\"]", "\"r\",".repeat(300));
    refused(user(&payload(&format!(r#","roles":{many}"#))), "roles holds a value");
    assert!(user(&payload(r#","roles":"","permissions":[]"#)).unwrap().roles.is_empty());
}

#[test]
fn claims_are_found_by_name_path_and_pointer() {
    let more = r#","realm":{"roles":["a"],"x.y":{"z":["g"]}},"https://example.com/roles":["b"],"list":[["c"],["d"]],"a/b":{"~":["e"]}"#;
    let found = |path: &str| {
        let claims = Claims { roles: path.into(), ..Claims::default() };
        from_claims(claims, &payload(more)).unwrap().roles.join(" ")
    };
    assert_eq!(found("realm.roles"), "a");
    assert_eq!(found("/realm/roles"), "a");
    assert_eq!(found("https://example.com/roles"), "b");
    assert_eq!(found("/list/1"), "d");
    assert_eq!(found("/a~1b/~0"), "e");
    for nothing in
        ["/list/01", "/list/2", "/list/-", "realm.none", "sub.x", "list.0", "realm.x.y.z", "/realm/roles/0/x", "/", "."]
    {
        assert_eq!(found(nothing), "", "{nothing}");
    }
}

#[test]
fn a_member_of_the_whole_name_comes_before_the_path() {
    let claims = Claims { user_id: "a.b".into(), ..Claims::default() };
    let both = format!(r#"{{"a":{{"b":"path"}},"a.b":"name","exp":{}}}"#, NOW + 1);
    assert_eq!(from_claims(claims.clone(), &both).unwrap().user_id.as_str(), "name");
    let unfit = format!(r#"{{"a":{{"b":"path"}},"a.b":null,"exp":{}}}"#, NOW + 1);
    refused(from_claims(claims, &unfit), "user id is neither");
}

#[test]
fn a_token_ends_at_exp_and_never_before_it_must() {
    let with = |exp: &str| user(&format!(r#"{{"sub":"u","exp":{exp}}}"#));
    assert!(with(&(NOW - 29).to_string()).is_ok(), "within the leeway");
    assert!(with(&format!("{}.5", NOW - 30)).is_ok());
    refused(with(&(NOW - 30).to_string()), "expired 30 s ago");
    refused(with("0"), "expired");
    refused(user(r#"{"sub":"u"}"#), "no `exp`");
    for exp in
        ["null", "true", "\"1999999999\"", "[]", "-1", "1e300", "253402300800", "1767225900000", "18446744073709551616"]
    {
        refused(with(exp), "`exp` is no date");
    }
    for exp in ["NaN", "Infinity", "1e400", "0x7fffffff", "01999999999", "+1999999999"] {
        refused(with(exp), "not readable as JSON");
    }
    assert!(with("1.9e9").is_ok(), "a NumericDate may have an exponent");
}

#[test]
fn a_token_from_the_future_is_refused() {
    for (claim, reason) in [("nbf", "not valid yet"), ("iat", "issued in the future")] {
        let with = |date: &str| user(&format!(r#"{{"sub":"u","exp":{},"{claim}":{date}}}"#, NOW + 600));
        assert!(with(&(NOW + 30).to_string()).is_ok());
        assert!(with(&(NOW - 1_000_000).to_string()).is_ok());
        refused(with(&(NOW + 31).to_string()), reason);
        for odd in ["\"0\"", "null", "-1", "1e99", "{}"] {
            refused(with(odd), "is no date");
        }
    }
}

#[test]
fn the_issuer_is_exact() {
    let route = only(&model::Jwt { issuer: Some("https://id.example.com".into()), ..secret_config() });
    let with = |iss: &str| bearer(&route, &with_payload(payload(&format!(r#","iss":{iss}"#))));
    assert!(with(r#""https://id.example.com""#).is_ok());
    for iss in [r#""https://id.example.com/""#, r#""HTTPS://id.example.com""#, r#""""#] {
        refused(with(iss), "another issuer");
    }
    refused(bearer(&route, &with_payload(payload(""))), "another issuer");
    for iss in ["7", "null", r#"["https://id.example.com"]"#] {
        refused(with(iss), "`iss` is no string");
    }
}

#[test]
fn one_audience_must_be_ours() {
    let route = only(&model::Jwt { audience: vec!["payments".into(), "refunds".into()], ..secret_config() });
    let with = |aud: &str| bearer(&route, &with_payload(payload(&format!(r#","aud":{aud}"#))));
    for aud in [r#""payments""#, r#"["other","refunds"]"#] {
        assert!(with(aud).is_ok(), "{aud}");
    }
    for aud in [r#""Payments""#, r#""payments refunds""#, "[]", r#"["other"]"#] {
        refused(with(aud), "another audience");
    }
    for aud in ["7", "null", "{}", r#"["payments",7]"#] {
        refused(with(aud), "`aud` is n");
    }
    refused(bearer(&route, &with_payload(payload(""))), "no `aud`");
    assert!(user(&payload(r#","aud":"whoever""#)).is_ok(), "without a configured audience any is accepted");
}

#[test]
fn an_old_token_is_refused_whatever_its_exp() {
    let route = only(&model::Jwt { max_age: Some(Period::secs(3600)), ..secret_config() });
    let with = |iat: &str| bearer(&route, &with_payload(format!(r#"{{"sub":"u","exp":{}{iat}}}"#, NOW + 86_400)));
    for seconds in [0, 3600, 3629] {
        assert!(with(&format!(r#","iat":{}"#, NOW - seconds)).is_ok(), "{seconds}");
    }
    refused(with(&format!(r#","iat":{}"#, NOW - 3630)), "issued 3630 s ago");
    refused(with(r#","iat":0"#), "issued");
    refused(with(""), "no `iat`");
    refused(with(r#","iat":null"#), "`iat` is no date");
    // A limit on the age never makes an expired token good.
    let expired = format!(r#"{{"sub":"u","exp":{},"iat":{NOW}}}"#, NOW - 60);
    refused(bearer(&route, &with_payload(expired)), "expired");
}

#[test]
fn required_claims_must_be_there_with_their_value() {
    let requiring = |name: &str, value: &str| {
        let require = [(name.to_owned(), value.to_owned())].into();
        only(&model::Jwt { require, ..secret_config() })
    };
    let ask = |name: &str, value: &str, more: &str| bearer(&requiring(name, value), &with_payload(payload(more)));
    for (name, value, more) in [
        ("tenant", "acme", r#","tenant":"acme""#),
        ("tenant", "acme", r#","tenant":["x","acme"]"#),
        ("realm.tenant", "acme", r#","realm":{"tenant":"acme"}"#),
        ("/realm/tenant", "acme", r#","realm":{"tenant":"acme"}"#),
        ("verified", "true", r#","verified":true"#),
        ("level", "-2", r#","level":-2"#),
        ("level", "2", r#","level":2"#),
        ("tenant", "*", r#","tenant":false"#),
        ("tenant", "*", r#","tenant":{}"#),
    ] {
        assert!(ask(name, value, more).is_ok(), "{name} {value} {more}");
    }
    for more in ["", r#","tenant":null"#, r#","Tenant":"acme""#, r#","x":{"tenant":"acme"}"#] {
        refused(ask("tenant", "acme", more), "no claim `tenant`");
        refused(ask("tenant", "*", more), "no claim `tenant`");
    }
    for more in [
        r#","tenant":"Acme""#,
        r#","tenant":"acme ""#,
        r#","tenant":[]"#,
        r#","tenant":[["acme"]]"#,
        r#","tenant":{"acme":"acme"}"#,
        r#","tenant":"x acme""#,
    ] {
        refused(ask("tenant", "acme", more), "`tenant` has not the required value");
    }
    refused(ask("level", "2", r#","level":2.0"#), "has not");
    refused(ask("verified", "true", r#","verified":false"#), "has not");
}

#[test]
fn every_required_claim_counts() {
    let require = [("a", "1"), ("b", "*")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let route = only(&model::Jwt { require, ..secret_config() });
    assert!(bearer(&route, &with_payload(payload(r#","a":1,"b":1"#))).is_ok());
    refused(bearer(&route, &with_payload(payload(r#","a":1"#))), "`b`");
    refused(bearer(&route, &with_payload(payload(r#","b":1"#))), "`a`");
    assert!(route.explain()[0].ends_with(r#", requires a = "1", requires b = "*""#), "{:?}", route.explain());
}

#[test]
fn the_typ_can_be_one() {
    let with = |typ: &str| hs256(&format!(r#"{{"alg":"HS256"{typ}}}"#), payload(""));
    for wanted in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let route = only(&model::Jwt { typ: Some(wanted.into()), ..secret_config() });
        for typ in [r#","typ":"at+jwt""#, r#","typ":"At+Jwt""#, r#","typ":"Application/AT+JWT""#] {
            assert!(bearer(&route, &with(typ)).is_ok(), "{wanted} {typ}");
        }
        for typ in ["", r#","typ":"JWT""#, r#","typ":"""#, r#","typ":"application/""#, r#","typ":"at+jwt ""#] {
            refused(bearer(&route, &with(typ)), "not the required one");
        }
    }
    // The operator's word makes another kind of token good.
    let route = only(&model::Jwt { typ: Some("internal+jwt".into()), ..secret_config() });
    assert!(bearer(&route, &with(r#","typ":"internal+jwt""#)).is_ok());
}
