//! Clients in Python on libraries that nobody here wrote, and OpenSSL's commands: what they seal the gateway opens, and they
//! open what it answers.

use std::{net::SocketAddr, sync::OnceLock};

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    Backend, Curl, Gateway, Upstream,
    credential::now_ms,
    expect_problem,
    messages::{Client, KINDS, Message, openssl, private_key, route, setup},
    node::Sealer,
    python, token,
    wire::chunked,
};

const TARGET: &str = "/debug/request/strong/1?a=b&c";
pub const PAYLOAD: &str = r#"{ "amount": 1999.00, "to":"Zoë 😀" }"#;

fn tables() -> String {
    let rsa = "keyrings = [\"partners\"]\nresponse_key = \"file:@DIR@/partner.pem\"\nresponse_kid = \"partner-key\"\n";
    let mut tables = String::from(
        "[keyrings.partners]\nkind = \"rsa\"\n\
         versions = [{ id = \"1\", key = \"file:@DIR@/rsa.pem\", state = \"active\", kid = \"gateway-key\" }]\n",
    );
    for (name, settings) in [
        ("strong/x", "profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\nkeyrings = [\"curves\", \"points\", \"sessions\"]"),
        ("bare", &*format!("profile = \"jwe-rsa\"\n{rsa}")),
        ("visa", &*format!("profile = \"jwe-rsa\"\npreset = \"visa-mle\"\n{rsa}")),
        ("mastercard", &*format!("profile = \"jwe-rsa\"\npreset = \"mastercard\"\n{rsa}")),
        ("founding", "profile = \"cryptojs\"\nmaster_key = \"env:MASTER_KEY\""),
    ] {
        let name = name.trim_end_matches("/x");
        let of_entry = route(name, settings);
        tables += &of_entry.replace(&format!("path = \"/{name}/**\""), &format!("path = \"/debug/request/{name}/**\""));
    }
    tables
}

/// The gateway's key and the partner's, made once: they take their time.
fn rsa_keys() -> &'static [Vec<u8>; 2] {
    static KEYS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    KEYS.get_or_init(|| [(); 2].map(|()| private_key(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])))
}

pub fn start(backend: SocketAddr) -> Gateway {
    let [own, partner] = rsa_keys();
    let public = |key: &[u8]| openssl(&["pkey", "-pubout"], key);
    let setup = setup(&tables(), backend).file("rsa.pem", own).file("public.pem", public(own));
    setup.file("partner-private.pem", partner).file("partner.pem", public(partner)).start()
}

/// Answers with what it was sent.
pub fn echo() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        call.respond(200, &[("Content-Type", "application/json")], &body)
    })
}

/// What the application saw.
fn body_of(seen: &str) -> String {
    let seen: Value = serde_json::from_str(seen).unwrap();
    String::from_utf8(STANDARD.decode(seen["body_base64"].as_str().unwrap()).unwrap()).unwrap()
}

#[test]
fn pyhpke_joserfc_and_http_ece_seal_and_open() {
    let backend = Backend::fastapi();
    let gateway = start(backend.address());
    let client = Client::of(&gateway, "/debug/request/strong/1");
    for kind in KINDS {
        let message = client.seal(kind, "POST", TARGET, PAYLOAD);
        let answer = message.send(&gateway, "POST", TARGET);
        assert_eq!(answer.status, 200, "{kind:?}: {}", answer.lossy());
        let (seen, content_type) = message.open(&answer);
        assert_eq!((body_of(&seen), &*content_type), (PAYLOAD.to_owned(), "application/json"), "{kind:?}");
        expect_problem(&message.send(&gateway, "POST", TARGET), 409, "ENVELOPE_REPLAYED");

        let message = client.seal(kind, "GET", TARGET, "");
        let answer = message.send_alone(&gateway, "GET", TARGET);
        assert_eq!(answer.status, 200, "{kind:?}: {}", answer.lossy());
        let (seen, _) = message.open(&answer);
        assert!(!seen.to_lowercase().contains("x-gapura-envelope"), "{kind:?}: {seen}");
        assert_eq!(body_of(&seen), "");
        // Another status is another message, and so is another member.
        let text = String::from_utf8(answer.body.clone()).unwrap_or_else(|_| URL_SAFE_NO_PAD.encode(&answer.body));
        assert!(message.open_text(&text, 201, "").is_err() && message.open_text(&text, 200, "/a").is_err(), "{kind:?}");
    }
}

/// Records that end exactly where the content does, one that is larger than the content, and many.
#[test]
fn records_of_any_size_of_http_ece_are_read() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let client = Client::of(&gateway, "/debug/request/strong/1");
    let text = format!("\"{}\"", "x".repeat(70_000));
    for (size, content) in
        [(18_u32, "{}"), (19, "{}"), (31, PAYLOAD), (4096, &*text), (65_536, &*text), (1 << 20, &*text)]
    {
        let mut recipe = client.recipe(KINDS[5], "POST", TARGET, content);
        recipe["rs"] = size.into();
        let message = Message::made(KINDS[5], recipe);
        let answer = message.send(&gateway, "POST", TARGET);
        assert_eq!(answer.status, 200, "{size}: {}", answer.lossy());
        // Of two records, where the content does not fit into one of ours.
        assert_eq!(message.open(&answer).0, content, "{size}");
    }
}

/// The same message in pieces of unknown length, over HTTP/2, and for a host that is spelled otherwise.
#[test]
fn a_message_passes_however_it_is_framed() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let client = Client::of(&gateway, "/debug/request/strong/1");
    let alice = token();
    for kind in KINDS {
        let message = client.seal(kind, "POST", TARGET, PAYLOAD);
        let fields = [("Authorization", &*alice), ("Host", "Gateway.TEST:80"), ("Transfer-Encoding", "chunked")];
        let headers = [&fields[..], message.fields()].concat();
        let answer = gateway.request("POST", TARGET, &headers, chunked(&message.body(), 7));
        assert_eq!(message.open(&answer).0, PAYLOAD, "{kind:?}");

        let mut recipe = client.recipe(kind, "POST", TARGET, PAYLOAD);
        recipe["request"]["authority"] = gateway.https().to_string().into();
        let message = Message::made(kind, recipe);
        let mut curl = Curl::h2(gateway.https(), TARGET).method("POST").header("Authorization", &alice);
        for (name, value) in message.fields() {
            curl = curl.header(name, value);
        }
        assert_eq!(message.open(&curl.body(message.body()).answer()).0, PAYLOAD, "{kind:?}");

        // Without content: in pieces of which there are none it is the head that counts, beside content it does not.
        let fields = |of: &Message| [("Authorization", alice.clone()), ("X-Gapura-Envelope", of.field())];
        for (method, pieces, status) in [("POST", chunked(b"", 7), 200), ("POST", chunked(b"{}", 7), 400)] {
            let message = client.seal(kind, method, TARGET, "");
            let fields = fields(&message);
            let mut headers: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.extend([("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]);
            let answer = gateway.request(method, TARGET, &headers, pieces);
            assert_eq!(answer.status, status, "{kind:?}: {}", answer.lossy());
            if status == 400 {
                expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
            }
        }
    }
}

/// The member that a preset wraps its messages in.
pub const WRAPPED: [(&str, Option<&str>); 3] =
    [("bare", None), ("visa", Some("encData")), ("mastercard", Some("encryptedData"))];

#[test]
fn a_partner_with_joserfc_is_understood_and_answered() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let [own, partner] = rsa_keys();
    let public = openssl(&["pkey", "-pubout"], own);
    for (name, member) in WRAPPED {
        for enc in ["A128GCM", "A256GCM"] {
            let mut header = json!({"alg": "RSA-OAEP-256", "enc": enc, "kid": "gateway-key"});
            match name {
                "bare" => header["iat"] = now_ms().into(),
                "visa" => header["iat"] = now_ms().to_string().into(),
                _ => {}
            }
            let key = pem(&public);
            let sealed = python::call("jweEncrypt", json!({"header": header, "text": PAYLOAD, "key": key}));
            let (content_type, body) = match member {
                None => ("application/jose", sealed),
                Some(member) => ("application/json", json!({ member: sealed }).to_string()),
            };
            let headers = [("Authorization", &*token()), ("Content-Type", content_type)];
            let answer = gateway.request("POST", &format!("/debug/request/{name}/1"), &headers, &body);
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{}", answer.lossy());
            let message = match member {
                None => answer.text().to_owned(),
                Some(member) => answer.json()[member].as_str().unwrap().to_owned(),
            };
            let opened = python::object("jweDecrypt", json!({"message": message, "key": pem(partner)}));
            assert_eq!((&opened["text"], &*upstream.last().text()), (&json!(PAYLOAD), PAYLOAD), "{name}");
            assert_eq!((&opened["header"]["kid"], &opened["header"]["enc"]), (&json!("partner-key"), &json!(enc)));
            assert_unwrapped_by_openssl(&gateway, &message, enc);
        }
    }
}

/// The content key of a message, by OpenSSL's own OAEP; and the message under it, by joserfc.
#[track_caller]
fn assert_unwrapped_by_openssl(gateway: &Gateway, message: &str, enc: &str) {
    let parts: Vec<&str> = message.split('.').collect();
    let wrapped = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let inkey = file(gateway, "partner-private.pem");
    let arguments = [&["pkeyutl", "-decrypt", "-inkey", &inkey], &OAEP[..]].concat();
    let key = openssl(&arguments, &wrapped);
    assert_eq!(key.len(), if enc == "A128GCM" { 16 } else { 32 });
    let given = json!({"message": message, "contentKey": URL_SAFE_NO_PAD.encode(key)});
    assert_eq!(python::call("jweContent", given), PAYLOAD);
}

const OAEP: [&str; 6] =
    ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"];

/// The other way: OpenSSL wraps the content key, and the gateway opens.
#[test]
fn a_key_that_openssl_wraps_opens() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let key = [7_u8; 32];
    let public = file(&gateway, "public.pem");
    let wrapped = openssl(&[&["pkeyutl", "-encrypt", "-pubin", "-inkey", &public], &OAEP[..]].concat(), &key);
    let header = json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "gateway-key", "iat": now_ms()}).to_string();
    let given = json!({
        "header": URL_SAFE_NO_PAD.encode(header), "wrapped": URL_SAFE_NO_PAD.encode(wrapped),
        "contentKey": URL_SAFE_NO_PAD.encode(key), "text": PAYLOAD,
    });
    let headers = [("Authorization", &*token()), ("Content-Type", "application/jose")];
    let answer = gateway.request("POST", "/debug/request/bare/1", &headers, python::call("jweAround", given));
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    assert_eq!(upstream.last().text(), PAYLOAD);
}

#[test]
fn the_openssl_command_seals_and_opens_the_founding_format() {
    let upstream = echo();
    let gateway = start(upstream.address());
    let alice = Sealer::alice();
    let pass = format!("pass:{}", alice.passphrase(0));
    let enc = ["enc", "-aes-256-cbc", "-md", "md5", "-base64", "-A", "-pass", &pass];
    let mut envelope = alice.seal("null");
    envelope["encryptedData"] = String::from_utf8(openssl(&enc, PAYLOAD.as_bytes())).unwrap().into();
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    let answer = gateway.request("POST", "/debug/request/founding/1", &headers, envelope.to_string());
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let data = answer.json()["data"]["encryptedData"].as_str().unwrap().to_owned();
    let opened = openssl(&[&enc[..], &["-d"]].concat(), data.as_bytes());
    assert_eq!((&*upstream.last().text(), std::str::from_utf8(&opened)), (PAYLOAD, Ok(PAYLOAD)));
}

pub fn file(gateway: &Gateway, name: &str) -> String {
    gateway.directory().join(name).display().to_string()
}

/// A key as the Python client takes one that is no JWK.
fn pem(pem: &[u8]) -> Value {
    String::from_utf8_lossy(pem).into_owned().into()
}
