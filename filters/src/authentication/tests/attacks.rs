//! The known attacks on JWT, one by one (RFC 8725, section 2, and what was found since).

use super::*;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn hs() -> Authentication {
    only(&secret_config())
}

fn rs() -> Authentication {
    only(&public_config(&[JwtAlgorithm::RS256], "rsa.pub.pem"))
}

fn rsa_key() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA_KEY).unwrap()
}

#[test]
fn no_algorithm() {
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256 ", "hs256", "HS256\\u0000", "RS1", "A128KW"] {
        let head = b64(format!(r#"{{"alg":"{alg}"}}"#));
        let body = b64(payload(""));
        for route in [hs(), rs()] {
            refused(bearer(&route, &format!("{head}.{body}.")), "no signature");
            refused(bearer(&route, &format!("{head}.{body}.AAAA")), "`alg` is not accepted");
            refused(bearer(&route, &format!("{head}.{body}")), "three parts");
        }
    }
    for header in ["{}", r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":256}"#, r#"{"ALG":"HS256"}"#] {
        refused(bearer(&hs(), &hs256(header, payload(""))), "`alg` is not accepted");
    }
}

#[test]
fn the_public_key_as_a_shared_secret() {
    let variants = [RSA_PUBLIC.to_vec(), RSA_PUBLIC.trim_ascii_end().to_vec()];
    for secret in variants {
        for alg in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = format!(r#"{{"alg":"{alg:?}"}}"#);
            let token = forge(&header, payload(""), alg, &EncodingKey::from_secret(&secret));
            refused(bearer(&rs(), &token), "`alg` is not accepted");
        }
    }
    let mut config = public_config(&[JwtAlgorithm::HS256], "rsa.pub.pem");
    assert!(Method::jwt("users", &config, &KeySets::default()).is_err(), "a public key is no secret");
    config.secret = config.public_key.take();
    assert!(Method::jwt("users", &config, &KeySets::default()).is_err(), "not even where one is asked for");
}

#[test]
fn another_algorithm() {
    // Outside the list, with the right key.
    let token = forge(r#"{"alg":"RS512"}"#, payload(""), Algorithm::RS512, &rsa_key());
    refused(bearer(&rs(), &token), "`alg` is not accepted");
    // Inside the list, but the signature is of another.
    let route = only(&public_config(&[JwtAlgorithm::RS256, JwtAlgorithm::PS256, JwtAlgorithm::RS384], "rsa.pub.pem"));
    for (named, used) in [("RS256", Algorithm::PS256), ("PS256", Algorithm::RS256), ("RS384", Algorithm::RS256)] {
        let token = forge(&format!(r#"{{"alg":"{named}"}}"#), payload(""), used, &rsa_key());
        refused(bearer(&route, &token), "signature does not verify");
    }
    let hs512 = forge(r#"{"alg":"HS512"}"#, payload(""), Algorithm::HS512, &EncodingKey::from_secret(SECRET));
    refused(bearer(&hs(), &hs512), "`alg` is not accepted");
}

#[test]
fn another_key() {
    let other = EncodingKey::from_rsa_pem(RSA_OTHER_KEY).unwrap();
    refused(bearer(&rs(), &forge(r#"{"alg":"RS256"}"#, payload(""), Algorithm::RS256, &other)), "signature");
    for secret in [&b""[..], b"\0", b"secret", &SECRET[1..], &[SECRET, b"x"].concat()] {
        let token = forge(HEADER, payload(""), Algorithm::HS256, &EncodingKey::from_secret(secret));
        refused(bearer(&hs(), &token), "signature does not verify");
    }
}

#[test]
fn a_stripped_or_cut_signature() {
    let token = hs256(HEADER, payload(""));
    assert!(bearer(&hs(), &token).is_ok());
    let unsigned = token.rsplit_once('.').unwrap().0;
    refused(bearer(&hs(), unsigned), "three parts");
    refused(bearer(&hs(), &format!("{unsigned}.")), "no signature");
    for kept in 1..token.len() - unsigned.len() - 1 {
        let cut = &token[..unsigned.len() + 1 + kept];
        assert!(bearer(&hs(), cut).is_err(), "{kept} characters of the signature are not enough");
    }
    for zeros in [1, 16, 31, 32, 33, 64, 256] {
        refused(bearer(&hs(), &format!("{unsigned}.{}", b64(vec![0; zeros]))), "signature does not verify");
    }
}

#[test]
fn an_ecdsa_signature_in_another_form() {
    let route = only(&public_config(&[JwtAlgorithm::ES256], "p256.pub.pem"));
    let token =
        forge(r#"{"alg":"ES256"}"#, payload(""), Algorithm::ES256, &EncodingKey::from_ec_pem(P256_KEY).unwrap());
    assert!(bearer(&route, &token).is_ok());
    let (unsigned, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // CVE-2022-21449, "psychic signatures"; and the DER form of X.509.
    let mut der = vec![0x30, 70, 2, 33, 0];
    der.extend(&raw[..32]);
    der.extend([2, 33, 0]);
    der.extend(&raw[32..]);
    for bad in [vec![0; 64], vec![0xff; 64], der, raw[..63].to_vec(), [&raw[..], &[0]].concat()] {
        refused(bearer(&route, &format!("{unsigned}.{}", b64(bad))), "signature does not verify");
    }
}

#[test]
fn repeated_members() {
    for header in [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
        r#"{"alg":"HS256","x":{"y":1,"y":2}}"#,
    ] {
        refused(bearer(&hs(), &hs256(header, payload(""))), "header: a member occurs twice");
    }
    for more in [r#","sub":"admin""#, r#","exp":9999999999"#, r#","\u0073ub":"admin""#, r#","x":[{"y":1,"y":1}]"#] {
        refused(bearer(&hs(), &with_payload(payload(more))), "payload: a member occurs twice");
    }
}

#[test]
fn header_extensions() {
    for (more, reason) in [
        (r#""crit":["exp"]"#, "`crit`"),
        (r#""crit":[]"#, "`crit`"),
        (r#""crit":null"#, "`crit`"),
        (r#""b64":false"#, "`b64`"),
        (r#""b64":true"#, "`b64`"),
        (r#""crit":["b64"],"b64":false"#, "`crit`"),
        (r#""zip":"DEF""#, "`zip`"),
    ] {
        refused(bearer(&hs(), &hs256(&format!(r#"{{"alg":"HS256",{more}}}"#), payload(""))), reason);
    }
}

#[test]
fn keys_that_the_token_brings_itself() {
    let set: &str = JWKS.lines().find(|line| line.contains("rsa-2")).unwrap();
    let jwk = set.trim().trim_end_matches(',');
    let other = EncodingKey::from_rsa_pem(RSA_OTHER_KEY).unwrap();
    for more in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.example/jwks.json""#.into(),
        r#""x5u":"https://evil.example/cert.pem""#.into(),
        r#""x5c":["MIIB"]"#.into(),
    ] {
        let header = format!(r#"{{"alg":"RS256",{more}}}"#);
        refused(bearer(&rs(), &forge(&header, payload(""), Algorithm::RS256, &other)), "signature does not verify");
        // They do not harm a good token either: they are not looked at.
        assert!(bearer(&rs(), &forge(&header, payload(""), Algorithm::RS256, &rsa_key())).is_ok());
    }
}

#[test]
fn a_kid_that_is_a_path_or_a_query() {
    let set = only(&set_config(&[JwtAlgorithm::RS256]));
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "' OR 1=1 --",
        "x' UNION SELECT 'k",
        "rsa-1\\u0000",
        "| id",
        "",
        "RSA-1",
    ] {
        let header = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
        refused(
            bearer(&set, &forge(&header, payload(""), Algorithm::RS256, &rsa_key())),
            "no key with the token's `kid`",
        );
        // Without a key set a kid has nothing to select.
        assert!(bearer(&rs(), &forge(&header, payload(""), Algorithm::RS256, &rsa_key())).is_ok());
    }
    for kid in ["7", "null", r#"["rsa-1"]"#, &format!("\"{}\"", "k".repeat(257))] {
        let header = format!(r#"{{"alg":"RS256","kid":{kid}}}"#);
        refused(bearer(&set, &forge(&header, payload(""), Algorithm::RS256, &rsa_key())), "`kid` is not a string");
    }
}

#[test]
fn another_type_of_token() {
    let with = |typ: &str| bearer(&hs(), &hs256(&format!(r#"{{"alg":"HS256","typ":{typ}}}"#), payload("")));
    for typ in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"] {
        assert!(with(&format!("\"{typ}\"")).is_ok(), "{typ}");
    }
    for typ in
        ["\"logout+jwt\"", "\"dpop+jwt\"", "\"secevent+jwt\"", "\"\"", "\"applicatioñ\"", "7", "null", "[\"JWT\"]"]
    {
        refused(with(typ), "`typ`");
    }
}

#[test]
fn too_long() {
    let long = format!(r#","pad":"{}""#, "x".repeat(64 * 1024));
    refused(bearer(&hs(), &with_payload(payload(&long))), "longer than 8 KiB");
    let fits = format!(r#","pad":"{}""#, "x".repeat(5 * 1024));
    assert!(bearer(&hs(), &with_payload(payload(&fits))).is_ok());
    refused(bearer(&hs(), &".".repeat(8192)), "three parts");
}

#[test]
fn another_spelling_of_base64() {
    let token = hs256(HEADER, payload(""));
    let (unsigned, signature) = token.rsplit_once('.').unwrap();
    // 32 bytes leave two unused bits in the last character: set, they decode to the same bytes elsewhere.
    let last = signature.chars().next_back().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).unwrap();
    let twin = alphabet.as_bytes()[at | 1] as char;
    assert_ne!(twin, last);
    let same = format!("{unsigned}.{}{twin}", &signature[..signature.len() - 1]);
    refused(bearer(&hs(), &same), "signature is not base64url");

    let standard = unsigned.to_owned()
        + "."
        + &base64::engine::general_purpose::STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
    for bad in [format!("{token}="), format!("{token}=="), format!("{token}\u{a0}"), format!("{token},"), standard] {
        refused(bearer(&hs(), &bad), "signature is not base64url");
    }
    refused(bearer(&hs(), &token.replacen('.', "=.", 1)), "header is not base64url");
    refused(bearer(&hs(), &format!("{} {}", &token[..9], &token[9..])), "header is not base64url");
    refused(bearer(&hs(), &format!("{token} {token}")), "three parts");
    refused(bearer(&hs(), &format!("{token}.{signature}")), "three parts");
    refused(bearer(&hs(), ""), "three parts");
    refused(bearer(&hs(), ".."), "no signature");
}

#[test]
fn a_payload_that_is_no_object() {
    for bad in [
        &b"\xff\xfe"[..],
        b"{\"sub\":\"\xc0\x80\"}",
        b"\xef\xbb\xbf{}",
        b"",
        b"[]",
        b"\"u1\"",
        b"null",
        b"{} {}",
        b"{}\0",
    ] {
        refused(bearer(&hs(), &with_payload(bad)), "payload: not readable");
    }
    let deep = format!(r#","x":{}{}"#, "[".repeat(2000), "]".repeat(2000));
    refused(bearer(&hs(), &with_payload(payload(&deep))), "payload: nested too deeply");
    let header = format!(r#"{{"alg":"HS256","x":{}"#, "{\"a\":".repeat(900));
    refused(bearer(&hs(), &hs256(&header, payload(""))), "header: nested too deeply");
}
