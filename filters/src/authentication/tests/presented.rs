//! Tokens in a cookie and among WebSocket subprotocols: which one is read, and what the upstream gets.

use super::{api_keys::developers, *};

fn from_source(name: &str, token: &str) -> Method {
    jwt(name, &model::Jwt { token: token.parse().unwrap(), ..secret_config() })
}

fn by(route: &Authentication, fields: &[(&str, &str)]) -> Result<Arc<Principal>, Refusal> {
    route.authenticate(&headers(fields), NOW_MS)
}

fn good() -> String {
    with_payload(payload(""))
}

#[test]
fn a_token_in_a_cookie() {
    let route = route(vec![from_source("web", "cookie:session")]);
    let token = good();
    for cookies in [
        format!("session={token}"),
        format!("a=b; session={token}; c=d=e"),
        format!("a=b;session={token}"),
        format!(" session = {token} ;; x"),
        format!("Session=x; SESSION=x; session2=x; session={token}"),
    ] {
        assert_eq!(&*by(&route, &[("cookie", &cookies)]).unwrap().method, "jwt.web", "{cookies}");
    }
    // HTTP/2 splits them.
    assert!(by(&route, &[("cookie", "a=b"), ("cookie", &format!("session={token}"))]).is_ok());
    for cookies in
        ["session=", "session", "session=x.y.z", &format!("session=\"{token}\""), &format!("session==={token}")]
    {
        refused(by(&route, &[("cookie", cookies)]), "token");
    }
    for fields in
        [vec![], vec![("cookie", "")], vec![("cookie", "Session=x; sessions=y")], vec![("x-cookie", "session=x")]]
    {
        let refusal = by(&route, &fields).unwrap_err();
        assert_eq!(refusal.code, Code::CredentialsMissing);
        assert_eq!(challenges(&refusal), ["Bearer realm=\"gapura\", cookie=\"session\""]);
    }
}

#[test]
fn a_cookie_that_occurs_twice_is_refused() {
    let route = route(vec![from_source("web", "cookie:session")]);
    let token = good();
    for second in [format!("session={token}"), "session=".into(), "session".into(), "session =x".into()] {
        for fields in [
            vec![("cookie", format!("session={token}; {second}"))],
            vec![("cookie", format!("{second}; a=b; session={token}"))],
            vec![("cookie", format!("session={token}")), ("cookie", second.clone())],
        ] {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            refused(by(&route, &fields), "more than once");
        }
    }
}

#[test]
fn a_token_among_subprotocols() {
    let route = route(vec![from_source("live", "websocket_protocol")]);
    let token = good();
    for list in [format!("bearer, {token}"), format!("chat,bearer,{token}"), format!("bearer, {token}, chat")] {
        assert!(by(&route, &[("sec-websocket-protocol", &list)]).is_ok(), "{list}");
    }
    let split = [("sec-websocket-protocol", "chat, bearer"), ("sec-websocket-protocol", token.as_str())];
    assert!(by(&route, &split).is_ok(), "a list in two fields is one list");
    for list in
        ["bearer", "bearer,", "bearer, chat", "chat, bearer", &format!("bearer, chat, {token}"), "bearer, bearer"]
    {
        refused(by(&route, &[("sec-websocket-protocol", list)]), "");
    }
    let twice = format!("bearer, {token}, bearer, {token}");
    refused(by(&route, &[("sec-websocket-protocol", &twice)]), "more than once");
    for list in ["chat", "", "Bearer, x", &token] {
        let refusal = by(&route, &[("sec-websocket-protocol", list)]).unwrap_err();
        assert_eq!(refusal.code, Code::CredentialsMissing, "{list}");
        assert_eq!(challenges(&refusal), ["Bearer realm=\"gapura\", header=\"Sec-WebSocket-Protocol\""]);
    }
}

#[test]
fn each_place_is_read_by_its_own_method_only() {
    let route = route(vec![from_source("api", "header"), from_source("web", "cookie:session"), developers(|_| {})]);
    let (token, bearer) = (good(), format!("Bearer {}", good()));
    let cookie = format!("session={token}");
    assert_eq!(&*by(&route, &[("authorization", &bearer)]).unwrap().method, "jwt.api");
    assert_eq!(&*by(&route, &[("cookie", &cookie)]).unwrap().method, "jwt.web");
    // Every presented credential must be good; the order of `auth` gives the identity.
    assert_eq!(&*by(&route, &[("cookie", &cookie), ("authorization", &bearer)]).unwrap().method, "jwt.api");
    refused(by(&route, &[("cookie", &cookie), ("authorization", "Bearer x.y.z")]), "token");
    refused(by(&route, &[("cookie", "session=x.y.z"), ("authorization", &bearer)]), "token");
    refused(by(&route, &[("cookie", "session=x.y.z"), ("authorization", "ApiKey ci-key")]), "token");
    // What no method of the route reads is no credential of it.
    let list = format!("bearer, {token}");
    assert_eq!(by(&route, &[("sec-websocket-protocol", &list)]).unwrap_err().code, Code::CredentialsMissing);

    let cookies_only = super::route(vec![from_source("web", "cookie:session")]);
    refused(by(&cookies_only, &[("cookie", &cookie), ("authorization", &bearer)]), "scheme");
}

/// The fields of a request as the upstream gets them.
fn forwarded(withheld: &Withheld, fields: &[(&str, &str)]) -> Vec<String> {
    let mut headers = headers(fields);
    for (name, values) in withheld.edits(&headers) {
        headers.remove(&name);
        for value in values {
            headers.append(name.clone(), value);
        }
    }
    let mut fields: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    fields
}

#[test]
fn the_upstream_does_not_get_what_is_withheld() {
    let route = route(vec![from_source("web", "cookie:session"), from_source("live", "websocket_protocol")]);
    let fields = [
        ("authorization", "Bearer x"),
        ("cookie", "a=b; session=T;c=d"),
        ("cookie", "session = T"),
        ("cookie", "sessions=e"),
        ("sec-websocket-protocol", "chat, bearer, T"),
        ("sec-websocket-protocol", "v2"),
    ];
    let kept = ["cookie: a=b; c=d", "cookie: sessions=e", "sec-websocket-protocol: chat, v2"];
    assert_eq!(forwarded(&route.withheld(false), &fields), kept);
    let kept = [
        "authorization: Bearer x",
        "cookie: a=b; session=T;c=d",
        "cookie: session = T",
        "cookie: sessions=e",
        "sec-websocket-protocol: chat, v2",
    ];
    assert_eq!(forwarded(&route.withheld(true), &fields), kept);
    let gone = [("cookie", "session=T"), ("sec-websocket-protocol", "bearer, T")];
    assert_eq!(forwarded(&route.withheld(false), &gone), [""; 0]);
    assert!(route.withheld(true).offers_bearer(&headers(&gone)));
    assert!(!route.withheld(true).offers_bearer(&headers(&[("sec-websocket-protocol", "chat")])));

    // Where no method reads them they are the application's own.
    let other = only(&secret_config()).withheld(false);
    assert_eq!(forwarded(&other, &gone), ["cookie: session=T", "sec-websocket-protocol: bearer, T"]);
    assert!(!other.offers_bearer(&headers(&gone)));
}

#[test]
fn explain_says_where_the_token_stands() {
    let route = route(vec![from_source("web", "cookie:session"), from_source("live", "websocket_protocol")]);
    let lines = route.explain();
    assert!(lines[0].ends_with(", token from cookie:session"), "{lines:?}");
    assert!(lines[1].ends_with(", token from websocket_protocol"), "{lines:?}");
    let withheld = ["authorization", "the cookie session", "bearer and the token in sec-websocket-protocol"];
    assert_eq!(route.withheld(false).explain(), withheld);
}
