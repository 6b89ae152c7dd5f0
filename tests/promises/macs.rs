//! `X-Gapura-Mac`: it binds an envelope of the founding format to its request, and its response to both. The MACs here are
//! computed by Python's own `hmac` and `hashlib`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Token, Upstream,
    credential::now_ms,
    expect_problem,
    messages::{route, setup},
    node::Sealer,
    python,
};

const JSON: &str = r#"{"amount": 19.90}"#;

/// Each as `DIR/NUMBER` of its upstream's status.
fn start(upstream: &Upstream) -> Gateway {
    let entry = |mode: &str| format!("profile = \"cryptojs\"\nmaster_key = \"env:MASTER_KEY\"\nmac = \"{mode}\"");
    let tables = ["off", "optional", "required"].map(|mode| route(mode, &entry(mode)));
    setup(&tables.concat(), upstream.address()).start()
}

fn upstream() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        let status = call.heard.target.split(['?', '/']).nth(2).and_then(|status| status.parse().ok()).unwrap_or(200);
        let body = if body.is_empty() { b"{\"empty\": true}".to_vec() } else { body };
        let body = if status == 204 { Vec::new() } else { body };
        // An upstream has no say in the MAC.
        call.respond(status, &[("Content-Type", "application/json"), ("X-Gapura-Mac", "v=1;forged")], &body)
    })
}

/// One request: what is sent, and what its MAC covers.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: String,
    body: String,
    covered: Value,
}

/// A user of the test's own: in these entries one who has sent a MAC sends envelopes without one no more.
fn sealer(user: &str) -> Sealer {
    Sealer { user_id: user.into(), email: format!("{user}@example.com"), bound: false }
}

fn bearer(user: &str) -> String {
    Token::new(user).with("email", format!("{user}@example.com")).bearer()
}

impl Request {
    fn new(user: &str, method: &'static str, target: &str, body: &str) -> Self {
        let alice = sealer(user);
        let passphrase = alice.passphrase(0);
        let body = if body.is_empty() { String::new() } else { alice.seal(body).to_string() };
        let key_hash = alice.seal("0")["keyHash"].clone();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let covered = json!({
            "passphrase": passphrase, "kid": key_hash.as_str().unwrap()[..16], "method": method,
            "authority": "gateway.test", "path": path, "query": query, "userId": user, "ts": now_ms().to_string(),
            "n": fresh(), "body": URL_SAFE_NO_PAD.encode(&body),
        });
        Self { method, target: target.to_owned(), body, covered }
    }

    fn with(&self, member: &str, value: impl Into<Value>) -> Self {
        let mut other = self.clone();
        other.covered[member] = value.into();
        other
    }

    fn text(&self, member: &str) -> &str {
        self.covered[member].as_str().unwrap()
    }

    fn header(&self) -> String {
        let mac = python::call("mac", self.covered.clone());
        format!("v=1;kid={};ts={};n={};mac={mac}", self.text("kid"), self.text("ts"), self.text("n"))
    }

    #[track_caller]
    fn send(&self, gateway: &Gateway, user: &str, header: &str) -> Answer {
        let bearer = bearer(user);
        let mut headers = vec![("Authorization", &*bearer)];
        if !self.body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        if !header.is_empty() {
            headers.push(("X-Gapura-Mac", header));
        }
        gateway.request(self.method, &self.target, &headers, &self.body)
    }

    /// The MAC of this answer is that of this request's answer, and of no other.
    #[track_caller]
    fn expect_mac(&self, answer: &Answer, irt: &str) {
        let said = answer.header("x-gapura-mac").expect("a MAC");
        let parts: Vec<&str> = said.split([';', '=']).collect();
        let ["v", "1", "kid", kid, "ts", ts, "n", n, "mac", mac] = parts[..] else { panic!("{said}") };
        assert_eq!(kid, self.text("kid"));
        assert!(now_ms().abs_diff(ts.parse().unwrap()) < 60_000 && n.len() == 22 && n != irt, "{said}");
        let mut own = self.with("ts", ts).with("n", n).with("body", URL_SAFE_NO_PAD.encode(&answer.body)).covered;
        own["status"] = answer.status.into();
        own["irt"] = irt.into();
        assert_eq!(python::call("mac", own.clone()), mac, "{said}");
        for (member, value) in [("status", json!(answer.status ^ 1)), ("irt", json!(fresh())), ("path", json!("/else"))]
        {
            let mut other = own.clone();
            other[member] = value;
            assert_ne!(python::call("mac", other), mac, "{member}");
        }
    }
}

/// 16 bytes that no other message of this run has, in base64url.
fn fresh() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let bytes = [now_ms().to_be_bytes(), NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn a_mac_is_verified_and_answered() {
    let upstream = upstream();
    let gateway = start(&upstream);
    for (mode, user) in [("optional", "u-1"), ("required", "u-2")] {
        for target in [format!("/{mode}/200?a=1&b"), format!("/{mode}/402")] {
            let request = Request::new(user, "POST", &target, JSON);
            let answer = request.send(&gateway, user, &request.header());
            assert!(matches!(answer.status, 200 | 402), "{mode}: {}", answer.lossy());
            let heard = upstream.last();
            assert_eq!((&*heard.text(), heard.header("x-gapura-mac")), (JSON, None));
            request.expect_mac(&answer, request.text("n"));
            assert_eq!(sealer(user).open(&answer.json()), JSON);
        }
        // Without a body, in either direction.
        for (method, target) in [("GET", format!("/{mode}/200")), ("DELETE", format!("/{mode}/204"))] {
            let request = Request::new(user, method, &target, "");
            let answer = request.send(&gateway, user, &request.header());
            assert!(matches!(answer.status, 200 | 204), "{mode}: {}", answer.lossy());
            request.expect_mac(&answer, request.text("n"));
            expect_problem(&request.send(&gateway, user, &request.header()), 409, "ENVELOPE_REPLAYED");
        }
    }
}

#[test]
fn without_a_mac_the_mode_decides() {
    let upstream = upstream();
    let gateway = start(&upstream);
    for mode in ["off", "optional"] {
        let request = Request::new("u-1", "POST", &format!("/{mode}/200"), JSON);
        let answer = request.send(&gateway, "u-1", "");
        assert_eq!((answer.status, answer.header("x-gapura-mac")), (200, None), "{mode}: {}", answer.lossy());
    }
    // Off: not even looked at. And it does not pass on.
    let request = Request::new("u-1", "POST", "/off/200", JSON);
    let answer = request.send(&gateway, "u-1", "nonsense");
    assert_eq!((answer.status, answer.header("x-gapura-mac")), (200, None));
    assert_eq!(upstream.last().header("x-gapura-mac"), None);
    upstream.forget();
    let request = Request::new("u-1", "POST", "/required/200", JSON);
    expect_problem(&request.send(&gateway, "u-1", ""), 400, "ENVELOPE_REQUIRED");
    assert_eq!(upstream.requests().len(), 0);
    // Nothing is sent that could have one; the answer has its own, of no request's `n`.
    let request = Request::new("u-1", "GET", "/required/200", "");
    let answer = request.send(&gateway, "u-1", "");
    assert_eq!(answer.status, 200);
    request.expect_mac(&answer, "");
}

#[test]
fn who_has_sent_a_mac_sends_no_envelope_without_one() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let request = Request::new("u-1", "POST", "/optional/200", JSON);
    assert_eq!(request.send(&gateway, "u-1", &request.header()).status, 200);
    for (method, body) in [("POST", JSON), ("GET", "")] {
        let bare = Request::new("u-1", method, "/optional/200", body);
        expect_problem(&bare.send(&gateway, "u-1", ""), 400, "ENVELOPE_REQUIRED");
        // Another caller is another matter.
        assert_eq!(Request::new("u-2", method, "/optional/200", body).send(&gateway, "u-2", "").status, 200);
    }
}

#[test]
fn what_does_not_hold_is_refused_and_reaches_nobody() {
    let upstream = upstream();
    let gateway = start(&upstream);
    for mode in ["optional", "required"] {
        let target = format!("/{mode}/200?a=1");
        let good = Request::new("u-1", "POST", &target, JSON);
        let others = [
            good.with("method", "PUT"),
            good.with("authority", "other.test"),
            good.with("path", format!("/{mode}/201")),
            good.with("query", ""),
            good.with("userId", "u-2"),
            good.with("body", URL_SAFE_NO_PAD.encode("{}")),
            good.with("passphrase", sealer("u-2").passphrase(0)),
            good.with("kid", "0123456789abcdef"),
        ];
        for other in &others {
            let answer = other.send(&gateway, "u-1", &other.header());
            expect_problem(&answer, 400, "DECRYPTION_FAILED");
        }
        // Covered well, said otherwise.
        let header = good.header();
        let later = (good.text("ts").parse::<u64>().unwrap() + 1).to_string();
        for header in [
            header.replace(good.text("ts"), &later),
            header.replace(good.text("n"), &fresh()),
            header.replace("v=1;", ""),
            header.replace(";n=", ";m="),
            format!("{header};more=1"),
            header[..header.len() - 1].to_owned(),
        ] {
            expect_problem(&good.send(&gateway, "u-1", &header), 400, "DECRYPTION_FAILED");
        }
        // Caught, and sent to another path, by another method, around other bytes, with other bytes around it.
        let spaced = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&good.body).unwrap()).unwrap();
        for caught in [
            Request { target: format!("/{mode}/201?a=1"), ..good.clone() },
            Request { target: format!("/{mode}/200"), ..good.clone() },
            Request { method: "PUT", ..good.clone() },
            Request { body: sealer("u-1").seal(JSON).to_string(), ..good.clone() },
            Request { body: spaced, ..good.clone() },
        ] {
            expect_problem(&caught.send(&gateway, "u-1", &header), 400, "DECRYPTION_FAILED");
        }
        // Twice in one head it means nothing.
        let bearer = bearer("u-1");
        let headers = [
            ("Authorization", &*bearer),
            ("Content-Type", "application/json"),
            ("X-Gapura-Mac", &*header),
            ("X-Gapura-Mac", &*header),
        ];
        expect_problem(&gateway.request("POST", &target, &headers, &good.body), 400, "DECRYPTION_FAILED");
        // Its time is vouched for, and counts.
        for ts in [now_ms() - 301_000, now_ms() + 301_000] {
            let old = good.with("ts", ts.to_string());
            expect_problem(&old.send(&gateway, "u-1", &old.header()), 400, "ENVELOPE_EXPIRED");
        }
        assert_eq!(upstream.requests().len(), 0, "{mode}");
        // After all of it the message itself is good, once; and its name is used up.
        assert_eq!(good.send(&gateway, "u-1", &header).status, 200, "{mode}");
        expect_problem(&good.send(&gateway, "u-1", &header), 409, "ENVELOPE_REPLAYED");
        let renamed = good.with("n", fresh());
        expect_problem(&renamed.send(&gateway, "u-1", &renamed.header()), 409, "ENVELOPE_REPLAYED");
        let again = Request::new("u-1", "POST", &target, JSON).with("n", good.text("n"));
        expect_problem(&again.send(&gateway, "u-1", &again.header()), 409, "ENVELOPE_REPLAYED");
        upstream.forget();
    }
}
