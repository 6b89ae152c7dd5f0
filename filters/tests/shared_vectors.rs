//! `tests/vectors/envelopes`: the vectors that the clients are held to as well, written by a script that shares no code with
//! either side. What all three agree on byte for byte is the wire format.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::Profile;
use gapura_filters::{
    contract::{Exchange, Now, Principal, UserId},
    crypto::{
        Curve, Passphrase, aes128gcm, fields, hpke,
        jwe::{Compact, Header, OpeningKey},
        key_hash,
        mac::{self, Covered},
        passphrase,
    },
    encryption::{
        context::{Answer, Bound, Label, MessageId},
        members::{self, Pointer},
    },
    keyring::{
        AgreementKey,
        session::{Holder, SessionKey},
    },
};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

macro_rules! vectors {
    ($name:literal) => {{
        let text = include_str!(concat!("../../tests/vectors/envelopes/", $name, ".json"));
        let Value::Array(cases) = serde_json::from_str(text).unwrap() else { panic!("{} is no list", $name) };
        assert!(!cases.is_empty());
        cases
    }};
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("a case has no text `{name}`"))
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text(value, name)).unwrap()
}

fn unhex(value: &Value, name: &str) -> Vec<u8> {
    let digits = text(value, name);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("a case has no number `{name}`"))
}

#[test]
fn the_fields() {
    for case in vectors!("fields") {
        let parts: Vec<&str> = case["fields"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        assert_eq!(fields(parts.iter().map(|part| part.as_bytes())), unhex(&case, "hex"));
    }
}

#[test]
fn the_session_keys() {
    for case in vectors!("session-keys") {
        let [method, subject, token_id] = ["method", "subject", "token_id"].map(|name| text(&case, name));
        let holder = Holder { method, subject, token_id };
        let key = SessionKey::derive(&bytes(&case, "secret"), text(&case, "kid"), holder);
        assert_eq!(key.bytes()[..], bytes(&case, "session_key"));
    }
}

#[test]
fn the_contexts() {
    for case in vectors!("contexts") {
        let mut exchange = Exchange::new(Now { monotonic: Default::default(), unix_ms: 0 }, [127, 0, 0, 1].into());
        exchange.authority = HeaderValue::from_str(text(&case, "authority")).unwrap();
        let query = text(&case, "query");
        let target = format!("{}{}{query}", text(&case, "path"), if query.is_empty() { "" } else { "?" });
        exchange.target = target.parse().unwrap();
        let token_id = text(&case, "token_id");
        let principal = Principal {
            method: "jwt.users".into(),
            user_id: UserId::string(text(&case, "subject")),
            email: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: (!token_id.is_empty()).then(|| token_id.into()),
            limits: Default::default(),
            claims: Default::default(),
        };
        let head = http::Request::builder().method(text(&case, "method")).body(()).unwrap().into_parts().0;
        let mut bound = Bound::new(&head, &exchange, principal.into());
        bound.part = text(&case, "part").to_owned();
        let label = Label {
            profile: if text(&case, "profile") == "jwe" { Profile::Jwe } else { Profile::Hpke },
            kid: text(&case, "kid"),
            iat: number(&case, "iat"),
            id: &MessageId::parse(text(&case, "id")).unwrap(),
            content_type: text(&case, "content_type"),
        };
        let own = match case.get("status") {
            None => bound.request(label),
            Some(_) => {
                let status = StatusCode::from_u16(number(&case, "status").try_into().unwrap()).unwrap();
                bound.response(label, Answer { status, request: &MessageId::parse(text(&case, "request_id")).unwrap() })
            }
        };
        assert_eq!(own, unhex(&case, "context_hex"));
    }
}

#[test]
fn jwe() {
    for case in vectors!("jwe") {
        let ecdh = text(&case, "alg") == "ECDH-ES";
        for (message, holder) in
            [(&case["request"], &case["recipient"]["private"]), (&case["response"], &case["reply"])]
        {
            let compact = Compact::split(text(message, "message").as_bytes()).unwrap();
            let json = compact.header().unwrap();
            assert_eq!(json, text(message, "header").as_bytes());
            let header = Header::read(&json).unwrap();
            assert_eq!(header.kid(), Some(text(message, "kid")));
            let plaintext = if ecdh {
                let curve = if text(holder, "crv") == "P-256" { Curve::P256 } else { Curve::X25519 };
                let key = AgreementKey::new(curve, &bytes(holder, "d").try_into().unwrap()).unwrap();
                compact.open(&header, OpeningKey::Agreement(&key.private))
            } else {
                compact.open(&header, OpeningKey::Wrapping(&bytes(&case, "session_key")))
            };
            assert_eq!(plaintext.unwrap(), text(message, "plaintext").as_bytes(), "{}", text(&case, "name"));
        }
    }
}

#[test]
fn hpke() {
    for case in vectors!("hpke") {
        let (request, response, name) = (&case["request"], &case["response"], text(&case, "name"));
        let mut message = bytes(request, "message");
        let (header, end) = hpke::Header::read(&message).unwrap();
        assert_eq!((header.kid, header.iat), (text(request, "kid"), number(request, "iat")), "{name}");
        assert_eq!((header.content_type, &header.id[..]), (text(request, "content_type"), &bytes(request, "id")[..]));
        assert_eq!(message[..end], unhex(request, "header_hex"), "{name}");
        let curve = header.curve;
        let scalar = bytes(&case["recipient"]["private"], "d").try_into().unwrap();
        let key = AgreementKey::new(curve, &scalar).unwrap();
        let opened = hpke::open(&mut message, (&key).into(), &unhex(request, "context_hex")).unwrap();
        assert_eq!(message[opened.plaintext], *text(request, "plaintext").as_bytes(), "{name}");

        let header = hpke::ResponseHeader {
            iat: number(response, "iat"),
            id: bytes(response, "id").try_into().unwrap(),
            content_type: text(response, "content_type"),
        };
        let nonce = bytes(response, "response_nonce").try_into().unwrap();
        let plaintext = text(response, "plaintext").as_bytes();
        let sealed = opened.response.seal(plaintext, &header, nonce, &unhex(response, "context_hex"));
        assert_eq!(sealed, bytes(response, "message"), "{name}");
    }
}

#[test]
fn aes128gcm() {
    for case in vectors!("aes128gcm") {
        let session_key: [u8; 32] = bytes(&case, "session_key").try_into().unwrap();
        for message in [&case["request"], &case["response"]] {
            let input_key = aes128gcm::input_key(&session_key, &unhex(message, "context_hex"));
            assert_eq!(input_key[..], bytes(message, "ikm"));
            let header = aes128gcm::Header {
                salt: bytes(message, "salt").try_into().unwrap(),
                record_size: number(message, "record_size").try_into().unwrap(),
                key_id: text(message, "keyid"),
            };
            let plaintext = text(message, "plaintext").as_bytes();
            let mut sealed = aes128gcm::seal(plaintext, &input_key[..], &header);
            assert_eq!(sealed, bytes(message, "message"), "{}", text(&case, "name"));
            assert_eq!(aes128gcm::Header::read(&sealed).unwrap(), Some(header));
            let records = &mut sealed[header.end()..];
            let len = aes128gcm::open_in_place(records, &header, &input_key[..]).unwrap();
            assert_eq!(records[..len], *plaintext);
        }
    }
}

#[test]
fn the_mac_header() {
    for case in vectors!("cryptojs-mac") {
        let own: Passphrase =
            passphrase(text(&case, "subject"), text(&case, "email"), text(&case, "master_key").as_bytes(), None);
        assert_eq!(own.as_bytes(), text(&case, "passphrase").as_bytes());
        let hash = key_hash(own.as_bytes());
        let request_n = text(&case["request"], "n");
        for (message, answers) in [(&case["request"], None), (&case["response"], Some(("201", request_n)))] {
            let covered = Covered {
                method: text(&case, "method"),
                authority: text(&case, "authority"),
                path: text(&case, "path"),
                query: text(&case, "query"),
                user_id: text(&case, "subject"),
                answers,
                body: text(message, "body").as_bytes(),
            };
            let header = mac::Header::make(&own, mac::kid(&hash), number(message, "ts"), text(message, "n"), covered);
            assert_eq!(header.to_string(), text(message, "mac_header"));
            assert!(mac::Header::parse(text(message, "mac_header")).unwrap().verify(&own, covered));
        }
    }
}

#[test]
fn members_in_place() {
    for case in vectors!("members") {
        let pointers = [Pointer::parse(text(&case, "pointer")).unwrap()];
        for side in [&case["request"], &case["response"]] {
            let (clear, sealed) = (text(side, "clear"), text(side, "sealed"));
            let found = |json: &str| members::find(json.as_bytes(), &pointers).unwrap()[0].clone().unwrap();
            let value = sealed[found(sealed)].as_bytes().into();
            assert_eq!(members::replace(clear.as_bytes(), vec![(found(clear), value)]), sealed.as_bytes());
        }
    }
}
