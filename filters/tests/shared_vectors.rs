//! `tests/vectors/envelopes`: the vectors that the clients are held to as well, written by a script that shares no code with
//! either side. What all three agree on byte for byte is the wire format.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_filters::{
    crypto::{
        Passphrase, aes128gcm, fields, hpke, key_hash,
        mac::{self, Covered},
        passphrase,
    },
    encryption::members::{self, Pointer},
    keyring::session::{Holder, SessionKey},
};
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
        let holder = Holder { subject: text(&case, "subject"), token_id: text(&case, "token_id") };
        let key = SessionKey::derive(&bytes(&case, "secret"), text(&case, "kid"), holder);
        assert_eq!(key.bytes()[..], bytes(&case, "session_key"));
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
        let kem = header.kem;
        let key = hpke::RecipientKey::from_bytes(kem, &bytes(&case["recipient"]["private"], "d")).unwrap();
        let opened = hpke::open(&mut message, &key, &unhex(request, "context_hex")).unwrap();
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
