//! The messages that are refused.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use gapura_config::model::{self, KeyDerivation};
use gapura_filters::{
    crypto::{self, hpke::Aead, jwe, mac},
    encryption::{
        Encryption, MemoryReplays, ReplayStore,
        client::{self, Identity},
        context::MessageId,
        sender::{Facts, Key},
    },
    keyring::{Keyring, Keyrings, session::Holder},
    metrics::Metrics,
};
use serde_json::{Value, json};

pub(crate) const NOW: u64 = 1_795_000_000_000;
pub(crate) const AUTHORITY: &str = "api.example.com";
pub(crate) const TARGET: &str = "/payments/1?a=1";
pub(crate) const USER: &str = "u1";
pub(crate) const EMAIL: &str = "ada@example.com";
pub(crate) const TOKEN_ID: &str = "t-1";
const MILLION: usize = 1_000_000;
const MASTER: &str = "hs256.secret";

/// Two kinds of message that are told apart, or not.
pub(crate) struct Pair {
    pub(crate) name: &'static str,
    pub(crate) filter: Arc<Encryption>,
    pub(crate) kinds: [Kind; 2],
    pub(crate) samples: usize,
}

#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn pairs() -> Vec<Pair> {
    let keys = Keys::new();
    let mut pairs = Vec::new();
    for (name, samples, kinds) in [
        ("aes128gcm", MILLION, keys.binary("aes128gcm")),
        // A key agreement each.
        ("hpke", MILLION / 2, keys.binary("hpke")),
        ("jwe A256KW", MILLION, keys.jwe()),
        // A private operation of RSA each.
        ("jwe-rsa", MILLION / 50, keys.rsa()),
        ("cryptojs with MAC", MILLION, keys.mac()),
        ("cryptojs", MILLION, keys.founding()),
    ] {
        let first = kinds.first().expect("several kinds").clone();
        let control = Kind { name: "control: the same", ..first.clone() };
        pairs.extend([control].into_iter().chain(kinds.into_iter().skip(1)).map(|other| Pair {
            name,
            filter: Arc::clone(&keys.filter),
            kinds: [first.clone(), other],
            samples,
        }));
    }
    pairs
}

struct Keys {
    rings: Keyrings,
    filter: Arc<Encryption>,
    content: Vec<u8>,
}

impl Keys {
    fn new() -> Self {
        let ring = |name: &str, kind: &str, file: &str| {
            let config = json!({ "kind": kind, "versions": [{ "id": "1", "key": key_file(file), "state": "active" }] });
            let config = serde_json::from_value(config).expect("a ring");
            (name.to_owned(), Some(Arc::new(Keyring::build(name, &config).expect("a test key"))))
        };
        let rings: Keyrings = BTreeMap::from([
            ring("bodies", "x25519", "x25519.key"),
            ring("partners", "rsa", "rsa.key"),
            ring("sessions", "secret", "hs256.secret"),
        ]);
        let config: model::Encryption = serde_json::from_value(json!({
            "profile": ["hpke", "aes128gcm", "jwe", "jwe-rsa", "cryptojs"],
            "keyrings": ["bodies", "partners", "sessions"],
            "response_key": key_file("rsa_other.pub.pem"), "response_kid": "theirs",
            "master_key": key_file(MASTER), "mac": "optional", "replay": "off", "downgrade_lock": false,
        }))
        .expect("a configuration");
        let metrics = Metrics::new().expect("metrics");
        let replays = ReplayStore::Memory(Arc::new(MemoryReplays::new(1000)));
        let filter = Encryption::with_rings("bench", &config, &rings, replays, &metrics);
        let filter = filter.unwrap_or_else(|faults| panic!("{faults:?}"));
        Self { rings, filter: Arc::new(filter), content: document() }
    }

    fn ring(&self, name: &str) -> &Keyring {
        self.rings[name].as_ref().expect("it was built")
    }

    fn session(&self) -> (String, [u8; 32]) {
        let holder = Holder { method: "jwt.users", subject: USER, token_id: TOKEN_ID };
        let (kid, key) = self.ring("sessions").new_session_key(holder, NOW / 1000 + 600, NOW).expect("a session key");
        (kid, *key.bytes())
    }

    /// The first is compared with each of the others.
    fn binary(&self, profile: &str) -> Vec<Kind> {
        let (kid, session) = self.session();
        let public = self.ring("bodies").active().and_then(|version| version.public()).expect("a public key");
        let (key, fields) = match profile {
            "hpke" => (
                Key::Public { kid: "bodies.1", key: public, aead: Aead::Aes256Gcm },
                vec![("content-type", "application/vnd.gapura.hpke".to_owned())],
            ),
            _ => (
                Key::Session { kid: &kid, key: &session },
                vec![("content-type", "application/json".to_owned()), ("content-encoding", "aes128gcm".to_owned())],
            ),
        };
        let seal = |facts: &Facts| facts.seal(&self.content, "application/json", &key, NOW).expect("sealed").0;
        let good = seal(&facts(TARGET));
        let changed = |at: usize| {
            let mut body = good.clone();
            body[at] ^= 1;
            body
        };
        // Of a name of the same length that no ring has.
        let unknown = good.windows(2).position(|text| text == b".1").expect("a kid") + 1;
        [
            ("another tag", changed(good.len() - 1)),
            ("another first byte of content", changed(good.len() - self.content.len() - 17)),
            ("for another path", seal(&facts("/payments/2?a=1"))),
            ("a kid that no ring has", changed(unknown)),
        ]
        .map(|(name, body)| Kind { name, fields: fields.clone(), body })
        .into()
    }

    fn jwe(&self) -> Vec<Kind> {
        let (kid, session) = self.session();
        let seal = |kid: &str, path: &str| {
            let members = json!({ "kid": kid, "cty": "application/json", "ctx": {
                "v": 1, "dir": "request", "method": "POST", "authority": AUTHORITY, "path": path, "query": "a=1",
                "sub": USER, "tid": TOKEN_ID, "iat": NOW, "id": MessageId::fresh().text(), "part": "",
            }});
            let key = jwe::SealingKey::Wrapping(&session);
            jwe::seal(jwe::Enc::A256Gcm, key, &members, &self.content).expect("sealed")
        };
        let good = seal(&kid, "/payments/1");
        let ciphertext = |text: &str| text.match_indices('.').nth(2).expect("five parts").0 + 1;
        let key = good.find('.').expect("five parts") + 1;
        jose([
            ("another tag", changed(&good, good.len() - 10)),
            ("another first byte of content", changed(&good, ciphertext(&good))),
            ("another wrapped key", changed(&good, key)),
            ("for another path", seal(&kid, "/payments/2")),
            ("a kid that no ring has", seal(&kid.replace(".1.", ".2."), "/payments/1")),
        ])
    }

    fn rsa(&self) -> Vec<Kind> {
        let members = json!({ "kid": "partners.1", "iat": NOW, "cty": "application/json" });
        let key = rsa_key();
        let seal = |enc| jwe::seal(enc, jwe::SealingKey::Rsa(&key), &members, &self.content).expect("sealed");
        let good = seal(jwe::Enc::A256Gcm);
        // The header and the content of the one with the key of the other: 16 bytes where 32 belong.
        let short = seal(jwe::Enc::A128Gcm);
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[1] = short.split('.').nth(1).expect("five parts");
        let start = good.find('.').expect("five parts") + 1;
        jose([
            ("bad OAEP padding", changed(&good, start + 40)),
            ("a content key of another length", parts.join(".")),
            ("another tag", changed(&good, good.len() - 10)),
        ])
    }

    fn mac(&self) -> Vec<Kind> {
        let body = self.founding_envelope(&self.content);
        let key = passphrase();
        let hash = crypto::key_hash(key.as_bytes());
        let covered = mac::Covered {
            method: "POST",
            authority: AUTHORITY,
            path: "/payments/1",
            query: "a=1",
            user_id: USER,
            answers: None,
            body: &body,
        };
        let header = mac::Header::make(&key, mac::kid(&hash), NOW, "AAECAwQFBgcICQoLDA0ODw", covered).to_string();
        let start = header.find(";mac=").expect("a MAC") + 5;
        let other = |at: usize| changed(&header, at);
        [
            ("the first byte of the MAC", other(start)),
            ("its last byte", other(header.len() - 2)),
            // A MAC that is right, of another message.
            ("another body", {
                let covered = mac::Covered { body: b"{}", ..covered };
                mac::Header::make(&key, mac::kid(&hash), NOW, "AAECAwQFBgcICQoLDA0ODw", covered).to_string()
            }),
        ]
        .map(|(name, value)| Kind {
            name,
            fields: vec![("content-type", "application/json".to_owned()), (mac::HEADER, value)],
            body: body.clone(),
        })
        .into()
    }

    fn founding_envelope(&self, content: &[u8]) -> Vec<u8> {
        let master_key = std::fs::read(key_file(MASTER).trim_start_matches("file:")).expect("a test key");
        let master_key = master_key.trim_ascii_end();
        let identity = Identity { user_id: USER, email: EMAIL, master_key, key_derivation: KeyDerivation::User };
        client::seal_request(content, identity, NOW).into_bytes()
    }

    /// What an attacker makes of a message without its key, and then what only who has the key can send.
    fn founding(&self) -> Vec<Kind> {
        // As long as whole blocks less one byte: one byte of padding.
        let mut content = self.content.clone();
        content.splice(1..1, vec![b' '; 15 - content.len() % 16]);
        let good = self.founding_envelope(&content);
        let damaged = |change: &dyn Fn(&mut [u8])| {
            let mut envelope: Value = serde_json::from_slice(&good).expect("JSON");
            let mut bytes = STANDARD.decode(envelope["encryptedData"].as_str().expect("text")).expect("base64");
            change(&mut bytes);
            envelope["encryptedData"] = STANDARD.encode(bytes).into();
            envelope.to_string().into_bytes()
        };
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut content = content.clone();
            change(&mut content);
            self.founding_envelope(&content)
        };
        [
            // The attack itself: the last byte of the last block but one garbles that block, and makes the padding wrong or, for
            // one value, right. Here another byte of it is changed, so that the padding stays right.
            (
                "wrong padding",
                damaged(&|bytes| {
                    let at = bytes.len() - 17;
                    bytes[at] ^= 0x40
                }),
            ),
            (
                "right padding, the last block but one garbled",
                damaged(&|bytes| {
                    let at = bytes.len() - 32;
                    bytes[at] ^= 0x40
                }),
            ),
            ("right padding, the first block garbled", damaged(&|bytes| bytes[20] ^= 0x40)),
            (
                "wrong padding, the last block garbled",
                damaged(&|bytes| {
                    let at = bytes.len() - 1;
                    bytes[at] ^= 0x40
                }),
            ),
            ("right padding, a wrong first byte", changed(&|json| json[0] = b'!')),
            ("right padding, no last bracket", changed(&|json| *json.last_mut().expect("a byte") = b' ')),
            ("right padding, no text at all", changed(&|json| json.fill(0xFF))),
        ]
        .map(|(name, body)| Kind { name, fields: vec![("content-type", "application/json".to_owned())], body })
        .into()
    }
}

fn jose<const N: usize>(messages: [(&'static str, String); N]) -> Vec<Kind> {
    let fields = || vec![("content-type", "application/jose".to_owned())];
    messages.map(|(name, text)| Kind { name, fields: fields(), body: text.into_bytes() }).into()
}

/// Another character of base64url at this place.
fn changed(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
    String::from_utf8(bytes).expect("ASCII")
}

fn facts(target: &str) -> Facts {
    Facts {
        method: "POST".into(),
        secure: true,
        authority: AUTHORITY.into(),
        target: target.into(),
        user_id: USER.into(),
        token_id: TOKEN_ID.into(),
        part: String::new(),
    }
}

fn passphrase() -> crypto::Passphrase {
    let master_key = std::fs::read(key_file(MASTER).trim_start_matches("file:")).expect("a test key");
    crypto::passphrase(USER, EMAIL, master_key.trim_ascii_end(), None)
}

fn key_file(name: &str) -> String {
    format!("file:{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn rsa_key() -> OaepPublicEncryptingKey {
    let text = std::fs::read_to_string(key_file("rsa.pub.pem").trim_start_matches("file:")).expect("a test key");
    let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(body).expect("base64");
    OaepPublicEncryptingKey::new(PublicEncryptingKey::from_der(&der).expect("a key")).expect("it can be used")
}

/// A kilobyte of names, numbers and nesting.
fn document() -> Vec<u8> {
    let items = (0..14)
        .map(|i| format!(r#"{{"id":{i},"name":"Customer number {i}","amount":{}.5,"tags":["new",null]}}"#, i * 37));
    format!("[{}]", items.collect::<Vec<_>>().join(",")).into_bytes()
}
