//! Profile `jwe`.

use gapura_filters::{
    contract::{Code, Filter as _},
    crypto::{
        Curve, PublicJwk,
        jwe::{Compact, Enc, Header, OpeningKey, SealingKey, seal},
    },
    keyring::{AgreementKey, Key, SessionKey},
};
use serde_json::{Value, json};

use super::stage::{HOLDER, NOW, Passed, Stage, ready, told};

pub(crate) const JOSE: &str = "application/jose";
pub(crate) const BODY: &[u8] = br#"{"amount":1999}"#;

pub(crate) fn stage() -> Stage {
    Stage::new(json!({ "profile": "jwe", "keyrings": ["points", "sessions"] }))
}

pub(crate) fn x25519_stage() -> Stage {
    Stage::new(json!({ "profile": "jwe", "keyrings": ["bodies", "sessions"] }))
}

/// A client's ephemeral key for the response.
pub(crate) fn ephemeral(curve: Curve) -> AgreementKey {
    AgreementKey::new(curve, &[3; 32]).unwrap()
}

pub(crate) struct Client<'s> {
    pub(crate) stage: &'s Stage,
    pub(crate) kid: String,
    pub(crate) public: PublicJwk,
    pub(crate) reply: AgreementKey,
}

impl<'s> Client<'s> {
    pub(crate) fn new(stage: &'s Stage, ring: &str, curve: Curve) -> Self {
        let version = stage.ring(ring).active().unwrap();
        let (kid, public) = (version.kid().to_owned(), version.public().unwrap().clone());
        Self { stage, kid, public, reply: ephemeral(curve) }
    }

    pub(crate) fn header(&self) -> Value {
        let mut ctx = self.stage.ctx();
        ctx["rpk"] = self.reply.public.members().into();
        json!({ "kid": self.kid, "cty": "application/json", "ctx": ctx })
    }

    pub(crate) fn seal(&self, header: &Value, body: &[u8]) -> String {
        seal(Enc::A256Gcm, SealingKey::Agreement(&self.public), header, body).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.seal(&self.header(), BODY)
    }
}

/// A session key, as key delivery gives it.
pub(crate) fn session(stage: &Stage, seconds: u64) -> (String, SessionKey) {
    stage.ring("sessions").new_session_key(HOLDER, NOW / 1000 + seconds, NOW).unwrap()
}

pub(crate) fn under_session(stage: &Stage, (kid, key): &(String, SessionKey), body: &[u8]) -> String {
    let header = json!({ "kid": kid, "cty": "application/json", "ctx": stage.ctx() });
    seal(Enc::A256Gcm, SealingKey::Wrapping(key.bytes()), &header, body).unwrap()
}

fn open(message: &[u8], key: OpeningKey<'_>) -> (Value, Vec<u8>) {
    let compact = Compact::split(message).unwrap();
    let json = compact.header().unwrap();
    let header = Header::read(&json).unwrap();
    (serde_json::from_slice(&json).unwrap(), compact.open(&header, key).unwrap())
}

#[test]
fn a_request_passes_in_clear_and_its_response_goes_to_the_clients_key() {
    for (ring, curve) in [("points", Curve::P256), ("points", Curve::X25519), ("bodies", Curve::X25519)] {
        let stage = if ring == "points" { stage() } else { x25519_stage() };
        let client = Client::new(&stage, ring, curve);
        let header = client.header();
        let mut passed = stage.post(JOSE, client.seal(&header, BODY)).unwrap();
        assert_eq!(&passed.body[..], BODY);
        assert_eq!(passed.head.headers["content-type"], "application/json");
        let (headers, sealed) = stage.answer(&mut passed, 201, "application/json; charset=utf-8", b"{\"ok\":true}");
        assert_eq!(headers["content-type"], JOSE);
        assert_eq!(headers["content-length"].to_str().unwrap(), sealed.len().to_string());
        assert!(!headers.contains_key("etag"));
        let (answered, plaintext) = open(&sealed, OpeningKey::Agreement(&client.reply.private));
        assert_eq!(plaintext, b"{\"ok\":true}");
        let ctx = &answered["ctx"];
        assert_eq!(answered["kid"], header["kid"]);
        assert_eq!(answered["cty"], "application/json; charset=utf-8");
        assert_eq!((answered["alg"].as_str(), answered["enc"].as_str()), (Some("ECDH-ES"), Some("A256GCM")));
        assert_eq!((&ctx["dir"], &ctx["status"], &ctx["irt"]), (&"response".into(), &201.into(), &header["ctx"]["id"]));
        for name in ["v", "method", "authority", "path", "query", "sub", "tid", "part"] {
            assert_eq!(ctx[name], header["ctx"][name], "{name}");
        }
        assert_eq!(ctx.as_object().unwrap().len(), 13);
        assert_eq!(stage.opened("jwe"), 1);
    }
}

#[test]
fn a_session_key_serves_both_ways() {
    let stage = stage();
    let session = session(&stage, 600);
    let mut passed = stage.post(JOSE, under_session(&stage, &session, BODY)).unwrap();
    assert_eq!(&passed.body[..], BODY);
    let (_, sealed) = stage.answer(&mut passed, 400, "text/plain", b"no");
    let (header, plaintext) = open(&sealed, OpeningKey::Wrapping(session.1.bytes()));
    assert_eq!((header["alg"].as_str(), header["kid"].as_str()), (Some("A256KW"), Some(&*session.0)));
    assert_eq!((header["ctx"]["status"].as_u64(), &plaintext[..]), (Some(400), &b"no"[..]));
}

#[test]
fn a_request_without_a_body_sends_its_message_in_the_header() {
    let stage = stage();
    let client = Client::new(&stage, "points", Curve::P256);
    let mut header = client.header();
    header.as_object_mut().unwrap().remove("cty");
    let field = format!("jwe={}", client.seal(&header, b""));
    let mut passed = stage.send(&[("x-gapura-envelope", &field)], "").unwrap();
    assert!(passed.body.is_empty() && !passed.head.headers.contains_key("x-gapura-envelope"));
    assert!(!passed.head.headers.contains_key("content-type"));
    let (_, sealed) = stage.answer(&mut passed, 200, "application/json", b"{}");
    assert_eq!(open(&sealed, OpeningKey::Agreement(&client.reply.private)).1, b"{}");
    // Without it nobody could read the response.
    assert_eq!(told(stage.send(&[], "")).0, Code::EnvelopeRequired);
    let fields = [("content-type", JOSE), ("x-gapura-envelope", &*field)];
    assert_eq!(told(stage.send(&fields, client.message())).0, Code::EnvelopeRequired, "both");
    for other in ["hpke=x", "jwe", "cryptojs=x", "jwe-rsa=x", ""] {
        assert_eq!(told(stage.send(&[("x-gapura-envelope", other)], "")).0, Code::EnvelopeRequired, "{other}");
    }
    let twice = [("x-gapura-envelope", &*field), ("x-gapura-envelope", &*field)];
    assert_eq!(told(stage.send(&twice, "")).0, Code::EnvelopeRequired);
    // With content it is none of a request without a body.
    let full = format!("jwe={}", client.message());
    assert_eq!(told(stage.send(&[("x-gapura-envelope", &full)], "")).0, Code::DecryptionFailed);
    assert_eq!(told(stage.send(&[("x-gapura-envelope", &field)], "")).0, Code::EnvelopeReplayed);
}

#[test]
fn another_request_is_not_the_one_the_message_is_for() {
    let message = |stage: &Stage| Client::new(stage, "points", Curve::P256).message();
    type Change = fn(&mut Stage);
    let moved: [(&str, Change); 6] = [
        ("method", |stage| stage.method = http::Method::PUT),
        ("authority", |stage| stage.authority = "other.example"),
        ("path", |stage| stage.target = "/payments/2?dry=1"),
        ("query", |stage| stage.target = "/payments/1?dry=0"),
        ("caller", |stage| stage.user = "u2"),
        ("token", |stage| stage.token_id = None),
    ];
    for (name, change) in moved {
        let mut stage = stage();
        let message = message(&stage);
        change(&mut stage);
        assert_eq!(told(stage.post(JOSE, message)).0, Code::DecryptionFailed, "{name}");
    }
    // The same host, spelt otherwise.
    let mut stage = stage();
    let message = message(&stage);
    stage.authority = "API.Example:443";
    assert!(stage.post(JOSE, message).is_ok());
}

#[test]
fn age_and_replay_come_after_the_message_has_proved_itself() {
    let mut stage = stage();
    let at = |stage: &mut Stage, iat: i64| {
        let client = Client::new(stage, "points", Curve::P256);
        let mut header = client.header();
        header["ctx"]["iat"] = json!(NOW as i64 + iat);
        stage.post(JOSE, client.seal(&header, BODY)).err().map(|refusal| refusal.code)
    };
    for (iat, expected) in [
        (60_000, None),
        (60_001, Some(Code::EnvelopeExpired)),
        (-300_000, None),
        (-300_001, Some(Code::EnvelopeExpired)),
    ] {
        assert_eq!(at(&mut stage, iat), expected, "{iat}");
    }
    let client = Client::new(&stage, "points", Curve::P256);
    let header = client.header();
    let message = client.seal(&header, BODY);
    assert!(stage.post(JOSE, message.clone()).is_ok());
    assert_eq!(told(stage.post(JOSE, message.clone())).0, Code::EnvelopeReplayed);
    // Sealed anew under the same id: the id is what counts.
    assert_eq!(told(stage.post(JOSE, client.seal(&header, b"{}"))).0, Code::EnvelopeReplayed);
    // To the last instant at which its time is good.
    let (message, header) = (client.message(), client.header());
    drop(header);
    assert!(stage.post(JOSE, message.clone()).is_ok());
    stage.now = NOW + 300_000;
    assert_eq!(told(stage.post(JOSE, message.clone())).0, Code::EnvelopeReplayed);
    stage.now = NOW + 300_001;
    assert_eq!(told(stage.post(JOSE, message)).0, Code::EnvelopeExpired);
}

#[test]
fn of_equal_messages_at_once_one_passes() {
    let stage = stage();
    let client = Client::new(&stage, "points", Curve::P256);
    for _ in 0..20 {
        let message = client.message();
        let passed: usize = std::thread::scope(|scope| {
            let post = || usize::from(stage.post(JOSE, message.clone()).is_ok());
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(post)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(passed, 1);
    }
}

#[test]
fn versions_open_by_their_state_and_their_end() {
    let mut stage = x25519_stage();
    let seal_to = |stage: &Stage, kid: &str| {
        let mut client = Client::new(stage, "bodies", Curve::X25519);
        client.kid = kid.to_owned();
        client.message()
    };
    for (kid, opens) in [("bodies.1", true), ("bodies.2", true), ("bodies.old", true), ("bodies.bad", false)] {
        assert_eq!(stage.post(JOSE, seal_to(&stage, kid)).is_ok(), opens, "{kid}");
    }
    // 2026-12-01 and later.
    stage.now = 1_796_083_200_000;
    for (kid, opens) in [("bodies.1", true), ("bodies.old", false)] {
        assert_eq!(stage.post(JOSE, seal_to(&stage, kid)).is_ok(), opens, "{kid}");
    }
}

#[test]
fn only_listed_content_passes() {
    let send = |stage: &Stage, cty: &str, body: &[u8]| {
        let client = Client::new(stage, "points", Curve::P256);
        let mut header = client.header();
        header["cty"] = cty.into();
        stage.post(JOSE, client.seal(&header, body))
    };
    let json_only = stage();
    assert_eq!(told(send(&json_only, "text/plain", b"x")).0, Code::ContentTypeUnsupported);
    let wider = Stage::new(json!({
        "profile": "jwe", "keyrings": ["points"], "inner_types": ["application/json", "text/plain", "application/a+json"],
    }));
    let passed =
        |passed: Passed| (passed.head.headers["content-type"].to_str().unwrap().to_owned(), passed.body.to_vec());
    let text = send(&wider, "text/plain; charset=utf-8", b"\xff any").map(passed).unwrap();
    assert_eq!(text, ("text/plain; charset=utf-8".to_owned(), b"\xff any".to_vec()));
    assert_eq!(told(send(&wider, "application/a+json", b"{")).0, Code::DecryptionFailed);
    assert_eq!(told(send(&wider, "text/html", b"x")).0, Code::ContentTypeUnsupported);
    assert_eq!(told(send(&wider, "text/plain\r\nX-User-Roles: admin", b"x")).0, Code::ContentTypeUnsupported);
}

#[test]
fn what_is_no_message_of_the_profile_is_told_so() {
    let stage = stage();
    for content_type in ["application/json", "text/plain", "application/jose+json", ""] {
        let (code, text) = told(stage.post(content_type, Client::new(&stage, "points", Curve::P256).message()));
        assert_eq!(code, Code::ContentTypeUnsupported, "{content_type}");
        assert!(text.contains("application/jose"), "{text}");
    }
    let coded = [("content-type", JOSE), ("content-encoding", "gzip")];
    assert_eq!(told(stage.send(&coded, "x")).0, Code::ContentTypeUnsupported);
}

#[test]
fn with_another_profile_beside_it_each_is_answered_in_its_own() {
    let file = super::stage::key_file("hs256.secret");
    let settings = json!({ "profile": ["cryptojs", "jwe"], "master_key": file, "keyrings": ["points"] });
    let stage = Stage::new(settings);
    let client = Client::new(&stage, "points", Curve::P256);
    let mut passed = stage.post(JOSE, client.message()).unwrap();
    let (headers, sealed) = stage.answer(&mut passed, 200, "application/json", b"{}");
    assert_eq!(headers["content-type"], JOSE);
    assert_eq!(open(&sealed, OpeningKey::Agreement(&client.reply.private)).1, b"{}");
    // A request without a message: sealed in the founding format.
    let mut passed = stage.send(&[], "").unwrap();
    let (headers, sealed) = stage.answer(&mut passed, 200, "application/json", b"{}");
    assert_eq!(headers["content-type"], "application/json");
    let body: Value = serde_json::from_slice(&sealed).unwrap();
    assert!(body["data"]["encryptedData"].is_string());
    assert_eq!(told(stage.post("application/json", "{}")).0, Code::EnvelopeRequired);
}

#[test]
fn heads_have_the_length_of_what_get_would_have() {
    let field = |stage: &Stage| {
        let client = Client::new(stage, "points", Curve::P256);
        let mut header = client.header();
        header.as_object_mut().unwrap().remove("cty");
        header["ctx"]["method"] = stage.method.as_str().into();
        format!("jwe={}", client.seal(&header, b""))
    };
    let mut stage = stage();
    stage.method = http::Method::HEAD;
    let mut passed = stage.send(&[("x-gapura-envelope", &field(&stage))], "").unwrap();
    let response = http::Response::builder().header("content-type", "application/json").header("content-length", 1000);
    let (mut head, mut body) = (response.body(()).unwrap().into_parts().0, bytes::Bytes::new());
    ready(stage.filter.on_response_body(&mut head, &mut body, &mut passed.exchange)).unwrap();
    let foretold: usize = head.headers["content-length"].to_str().unwrap().parse().unwrap();
    assert!(body.is_empty());
    stage.method = http::Method::GET;
    let mut passed = stage.send(&[("x-gapura-envelope", &field(&stage))], "").unwrap();
    let (_, sealed) = stage.answer(&mut passed, 200, "application/json", &[b' '; 1000]);
    // "HEAD" has a letter more than "GET", and base64url makes one or two of it.
    assert!(sealed.len() < foretold && foretold <= sealed.len() + 2, "{foretold} {}", sealed.len());
}

#[test]
fn a_private_key_is_never_shown() {
    let stage = stage();
    let debug = format!("{:?}", stage.rings);
    assert_eq!(debug.matches("points.1 active").count(), 1, "{debug}");
    let Some(Key::Agreement(key)) = stage.ring("points").opening("points.1", NOW) else { panic!("a key pair") };
    let secret = format!("{:?}", &key.scalar[..]);
    assert!(!debug.contains(&secret[1..secret.len() - 1]));
    assert_eq!(format!("{:?}", session(&stage, 1).1), "SessionKey(…)");
}
