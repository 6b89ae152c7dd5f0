//! From the founding format to stronger profiles, through the real gateway: who may still send what, until when, and that no
//! answer is weaker than its request.

use serde_json::Value;

use crate::support::{
    Answer, Gateway, Token, Upstream, expect_problem,
    messages::{Client, KINDS, Kind, Message, route, setup},
    node::Sealer,
    token,
    wait::until_true,
};

const JSON: &str = r#"{"amount": 19.90}"#;

const FOUNDING: &str = "master_key = \"env:MASTER_KEY\"";
const STRONG: &str = "keyrings = [\"curves\", \"points\", \"sessions\"]";

/// All but those of card schemes, and the end of the founding one.
fn start(upstream: &Upstream) -> Gateway {
    let all = format!("profile = [\"cryptojs\", \"hpke\", \"jwe\", \"aes128gcm\"]\n{FOUNDING}\n{STRONG}");
    let hpke = format!("profile = [\"hpke\", \"cryptojs\"]\n{FOUNDING}\nkeyrings = [\"curves\"]");
    let tables = [
        route("all", &all),
        route("unlocked", &format!("{all}\ndowngrade_lock = false")),
        route("still", &format!("{hpke}\naccept_legacy_until = 2999-12-31")),
        route("over", &format!("{hpke}\naccept_legacy_until = 2020-02-29")),
        route("alone", &format!("profile = \"cryptojs\"\n{FOUNDING}\naccept_legacy_until = 2020-02-29")),
        route("lax", &format!("{hpke}\naccept_legacy_until = 2020-02-29\nrequired = false")),
        route("open", &format!("profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\n{STRONG}\nrequired = false")),
    ];
    setup(&tables.concat(), upstream.address()).start()
}

fn echo() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        let status = call.heard.target.rsplit('/').next().and_then(|status| status.parse().ok()).unwrap_or(201);
        let body = if body.is_empty() { b"{\"empty\": true}".to_vec() } else { body };
        call.respond(status, &[("Content-Type", "application/json")], &body)
    })
}

#[track_caller]
fn founding(gateway: &Gateway, target: &str) -> Answer {
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    gateway.request("POST", target, &headers, Sealer::alice().seal(JSON).to_string())
}

#[track_caller]
fn bare(gateway: &Gateway, target: &str) -> Answer {
    gateway.request("GET", target, &[("Authorization", &token())], b"")
}

fn used(gateway: &Gateway, entry: &str, profile: &str) -> f64 {
    let labels = [format!("encryption=\"{entry}\""), format!("profile=\"{profile}\"")];
    gateway.metric("gapura_envelopes_total", &[&labels[0], &labels[1]])
}

fn counted(gateway: &Gateway, entry: &str, result: &str) -> f64 {
    let labels = [format!("encryption=\"{entry}\""), format!("result=\"{result}\"")];
    gateway.metric("gapura_decryptions_total", &[&labels[0], &labels[1]])
}

#[test]
fn until_its_day_the_founding_format_is_accepted_and_counted() {
    let upstream = echo();
    let gateway = start(&upstream);
    for sent in 1..=2 {
        let answer = founding(&gateway, "/still/201");
        assert_eq!(Sealer::alice().open(&answer.json()), JSON);
        assert!((used(&gateway, "still", "cryptojs") - f64::from(sent)).abs() < 0.1, "the metric tells who still does");
    }
    assert_eq!(Sealer::alice().open(&bare(&gateway, "/still/200").json()), "{\"empty\": true}");
    assert!(used(&gateway, "still", "hpke") < 0.1);
    assert!(gateway.metrics().keys().any(|sample| sample.contains("encryption=\"still\",profile=\"hpke\"")));
}

#[test]
fn after_its_day_nothing_of_the_founding_format_passes() {
    let upstream = echo();
    let gateway = start(&upstream);
    for (entry, accepted) in [("over", " Accepted here: hpke."), ("lax", " Accepted here: hpke."), ("alone", "")] {
        let target = format!("/{entry}/200");
        for answer in [founding(&gateway, &target), bare(&gateway, &target)] {
            let problem = expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
            assert_eq!(problem["detail"], format!("The profile cryptojs ended with 2020-02-29.{accepted}"));
        }
        assert!((counted(&gateway, entry, "ended") - 2.0).abs() < 0.1);
        assert!(used(&gateway, entry, "cryptojs") < 0.1);
    }
    upstream.expect_untouched();
    // Who moved is not concerned.
    let client = Client::of(&gateway, "/all/1");
    let message = client.seal(KINDS[0], "POST", "/over/201", JSON);
    assert_eq!(message.open(&message.send(&gateway, "POST", "/over/201")).0, JSON);
    let message = client.seal(KINDS[0], "GET", "/over/200", "");
    assert_eq!(message.open(&message.send_alone(&gateway, "GET", "/over/200")).0, "{\"empty\": true}");
}

#[test]
fn who_has_sent_a_stronger_message_sends_no_weaker_one() {
    let upstream = echo();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/all/1");
    // Before: both ways.
    assert_eq!(founding(&gateway, "/all/201").status, 201);
    assert_eq!(bare(&gateway, "/all/200").status, 200);
    for (at, kind) in KINDS.into_iter().enumerate() {
        // Of equal strength: in any order.
        assert_eq!(client.seal(kind, "POST", "/all/201", JSON).send(&gateway, "POST", "/all/201").status, 201);
        upstream.forget();
        let problem = expect_problem(&founding(&gateway, "/all/201"), 400, "ENVELOPE_REQUIRED");
        assert!(problem["detail"].as_str().unwrap().contains("hpke, jwe, aes128gcm"), "{problem}");
        expect_problem(&bare(&gateway, "/all/200"), 400, "ENVELOPE_REQUIRED");
        assert!((counted(&gateway, "all", "downgraded") - 2.0 * (at + 1) as f64).abs() < 0.1);
        assert_eq!(upstream.requests().len(), 0, "{kind:?}");
    }
    let line = "security: a weaker envelope than before from u-1001 at encryption.all: refused";
    until_true("the log tells", || gateway.log().contains(line));
    // Another caller, another entry, and an entry without the lock are other matters.
    let bob = Token::new("u-1002").with("email", "bob@example.com").bearer();
    assert_eq!(gateway.request("GET", "/all/200", &[("Authorization", &bob)], b"").status, 200);
    assert_eq!(founding(&gateway, "/still/201").status, 201);
    let message = client.seal(KINDS[0], "POST", "/unlocked/201", JSON);
    assert_eq!(message.send(&gateway, "POST", "/unlocked/201").status, 201);
    assert_eq!(founding(&gateway, "/unlocked/201").status, 201);
    // A reload takes no lock off.
    assert_eq!(gateway.reload().status, 200);
    expect_problem(&founding(&gateway, "/all/201"), 400, "ENVELOPE_REQUIRED");
}

#[test]
fn who_has_sent_a_message_sends_no_plaintext() {
    let upstream = echo();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/all/1");
    let headers = [("Authorization", &*token()), ("Content-Type", "text/plain")];
    let plain = || gateway.request("POST", "/open/201", &headers, "hello");
    assert_eq!((plain().status, plain().text()), (201, "hello"));
    assert_eq!(bare(&gateway, "/open/200").text(), "{\"empty\": true}");
    for kind in KINDS {
        let message = client.seal(kind, "POST", "/open/201", JSON);
        assert_eq!(message.open(&message.send(&gateway, "POST", "/open/201")).0, JSON);
        upstream.forget();
        expect_problem(&plain(), 400, "ENVELOPE_REQUIRED");
        expect_problem(&bare(&gateway, "/open/200"), 400, "ENVELOPE_REQUIRED");
        assert_eq!(upstream.requests().len(), 0, "{kind:?}");
    }
}

/// Only what has proved itself locks: else anybody could take the founding format from a caller.
#[test]
fn what_does_not_open_locks_nobody() {
    let upstream = echo();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/all/1");
    for kind in KINDS {
        let other = client.seal(kind, "POST", "/all/202", JSON);
        expect_problem(&other.send(&gateway, "POST", "/all/201"), 400, "DECRYPTION_FAILED");
        let mut recipe = client.recipe(kind, "POST", "/all/201", JSON);
        recipe["iat"] = 1_000_000_000_000_u64.into();
        expect_problem(&Message::made(kind, recipe).send(&gateway, "POST", "/all/201"), 400, "ENVELOPE_EXPIRED");
    }
    assert_eq!(founding(&gateway, "/all/201").status, 201);
}

/// Whatever the application answers comes in the profile of the request, and never in clear or in the founding format.
#[test]
fn no_answer_is_weaker_than_its_request() {
    let upstream = Upstream::start(|call| {
        call.body();
        let status = call.heard.target.rsplit('/').next().and_then(|status| status.parse().ok()).unwrap_or(200);
        let types = [("Content-Type", "application/json"), ("Content-Type", "text/html; charset=utf-8")];
        let fields = if status == 500 {
            &types[1..]
        } else if status == 418 {
            &[]
        } else {
            &types[..1]
        };
        call.respond(status, fields, b"{\"secret\": \"of the application\"}")
    });
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/all/1");
    for kind in KINDS {
        for status in [200_u16, 302, 400, 401, 404, 409, 418, 429, 500, 503] {
            let target = format!("/unlocked/{status}");
            let message = client.seal(kind, "POST", &target, JSON);
            let alone = client.seal(kind, "GET", &target, "");
            for (message, answer) in [
                (&message, message.send(&gateway, "POST", &target)),
                (&alone, alone.send_alone(&gateway, "GET", &target)),
            ] {
                assert_eq!(answer.status, status, "{kind:?}");
                assert!(!answer.lossy().contains("secret"), "{kind:?} {status}");
                expect_in_kind(kind, status, message, &answer);
            }
        }
    }
    // As weak as it was asked, in the weakest form.
    let answer: Value = bare(&gateway, "/unlocked/404").json();
    assert_eq!(Sealer::alice().open(&answer), "{\"secret\": \"of the application\"}");
}

#[track_caller]
fn expect_in_kind(kind: Kind, status: u16, message: &Message, answer: &Answer) {
    let said = match status {
        500 => "text/html; charset=utf-8",
        418 => "",
        _ => "application/json",
    };
    if kind.profile == "aes128gcm" {
        // In this coding the type stands in the head; the test's client says which one it has read there.
        assert_eq!(answer.header("content-type").unwrap_or_default(), said);
        assert_eq!(answer.header("content-encoding"), Some("aes128gcm"));
        let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &answer.body);
        let opened = message.open_typed(&text, status, "", said).unwrap_or_else(|why| panic!("{status}: {why}"));
        assert!(opened.0.contains("of the application"));
        return;
    }
    let (content, content_type) = message.open(answer);
    assert!(content.contains("of the application"), "{content}");
    assert_eq!(content_type, said, "{kind:?} {status}");
}
