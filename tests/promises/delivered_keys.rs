//! Keys that are delivered sealed: opened by two JOSE libraries, they work for a request; and they end.

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Token, Upstream,
    credential::now_ms,
    expect_problem,
    messages::{Client, KINDS, Message, route, session_key, setup},
    node::{self, Sealer},
    python, token,
    wait::until,
};

const JSON: &str = r#"{"amount": 19.90}"#;

fn start(upstream: &Upstream) -> Gateway {
    let strong = "profile = [\"aes128gcm\", \"jwe\"]\nkeyrings = [\"sessions\"]";
    let tables = [route("all", strong), route("founding", "profile = \"cryptojs\"\nmaster_key = \"env:MASTER_KEY\"")];
    setup(&tables.concat(), upstream.address()).start()
}

fn echo() -> Upstream {
    Upstream::start(|call| {
        let body = call.body();
        call.respond(200, &[("Content-Type", "application/json")], &body)
    })
}

/// A key pair of each library on each curve, as JWKs.
fn pairs() -> Vec<(&'static str, Value)> {
    let of_node = |kind: &str| serde_json::from_str(&node::call("keyPair", json!({"kind": kind}))).unwrap();
    let of_python = |curve: &str| python::object("keyPair", json!({"curve": curve}));
    vec![
        ("jose", of_node("x25519")),
        ("jose", of_node("p256")),
        ("joserfc", of_python("X25519")),
        ("joserfc", of_python("P-256")),
    ]
}

#[track_caller]
fn opened(library: &str, sealed: &str, pair: &Value) -> Value {
    let given = json!({"message": sealed, "key": pair["private"], "alg": "ECDH-ES"});
    let opened = match library {
        "jose" => serde_json::from_str(&node::call("jweDecrypt", given)).unwrap(),
        _ => python::object("jweDecrypt", given),
    };
    assert_eq!((&opened["header"]["alg"], &opened["header"]["enc"]), (&json!("ECDH-ES"), &json!("A256GCM")));
    serde_json::from_str(opened["text"].as_str().unwrap()).unwrap()
}

#[test]
fn a_sealed_key_is_opened_by_jose_and_joserfc_and_works() {
    let upstream = echo();
    let gateway = start(&upstream);
    let mut client = Client::of(&gateway, "/all/1");
    for (library, pair) in pairs() {
        let body = json!({"public_key": pair["public"]}).to_string();
        // Without TLS, too: nobody on the way can read it.
        let target = "/.well-known/gapura/session-key?path=/all/1";
        let clear = gateway.request("POST", target, &[("Authorization", &token())], &body);
        for answer in [session_key(&gateway, "/all/1", &token(), body.as_bytes()), clear] {
            assert_eq!(answer.status, 200, "{library}: {}", answer.lossy());
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let mut told = answer.json();
            let secrets = opened(library, told["sealed"].as_str().unwrap(), &pair);
            assert_eq!(secrets.as_object().unwrap().keys().collect::<Vec<_>>(), ["session_key"]);
            assert!(told.get("session_key").is_none() && told.get("passphrase").is_none(), "{told}");
            told["session_key"] = secrets["session_key"].clone();
            client.session = told;
            for kind in [KINDS[4], KINDS[5]] {
                let message = client.seal(kind, "POST", "/all/1", JSON);
                let answer = message.send(&gateway, "POST", "/all/1");
                assert_eq!(answer.status, 200, "{library} {kind:?}: {}", answer.lossy());
                assert_eq!(message.open(&answer).0, JSON);
            }
            assert!(!gateway.log().contains(secrets["session_key"].as_str().unwrap()));
        }
        // A passphrase comes the same way.
        let told = session_key(&gateway, "/founding/1", &token(), body.as_bytes()).json();
        let secrets = opened(library, told["sealed"].as_str().unwrap(), &pair);
        assert_eq!(secrets, json!({"passphrase": Sealer::alice().passphrase(0)}));
    }
}

#[test]
fn a_key_of_one_caller_is_no_key_of_another() {
    let upstream = echo();
    let gateway = start(&upstream);
    let bob = Token::new("u-1002").with("email", "bob@example.com").bearer();
    let renewed = Token::alice().with("jti", "t-1").bearer();
    for (whose, authorization) in [("another caller's", bob), ("another token's", renewed)] {
        let told = session_key(&gateway, "/all/1", &authorization, b"").json();
        let mut client = Client::of(&gateway, "/all/1");
        assert_ne!(client.session["session_key"], told["session_key"], "{whose}");
        client.session = told;
        for kind in [KINDS[4], KINDS[5]] {
            let message = client.seal(kind, "POST", "/all/1", JSON);
            expect_problem(&message.send(&gateway, "POST", "/all/1"), 400, "DECRYPTION_FAILED");
        }
    }
    upstream.expect_untouched();
}

/// A session key opens up to the second in which its credential ends, and not a message longer, though another credential of
/// the caller's is good.
#[test]
fn a_session_key_ends_with_the_credential_it_was_given_for() {
    let upstream = echo();
    let gateway = start(&upstream);
    // On a slow machine the token may end before it was looked at.
    let mut life = 1;
    let told = until("a session key that soon ends", || {
        life += 1;
        let short = Token::alice().with("exp", now_ms() / 1000 + life).bearer();
        let answer = session_key(&gateway, "/all/1", &short, b"");
        (answer.status == 200).then(|| answer.json())
    });
    let end = told["expires"].as_u64().unwrap() * 1000;
    assert!(end < now_ms() + 60_000, "it ends with its token: {told}");
    let mut client = Client::of(&gateway, "/all/1");
    client.session = told;
    for kind in [KINDS[4], KINDS[5]] {
        let refused = until("the key ends", || {
            let message = client.seal(kind, "POST", "/all/1", JSON);
            let before = now_ms();
            let answer: Answer = message.send(&gateway, "POST", "/all/1");
            if answer.status == 200 {
                assert!(before < end, "{kind:?}: it opened {} ms after its end", before - end);
                return None;
            }
            Some(answer)
        });
        assert!(now_ms() >= end, "{kind:?}: it ended too soon");
        expect_problem(&refused, 400, "DECRYPTION_FAILED");
        // Nor does it live on under a name with a later end: that is another key's.
        let kid = client.session["kid"].as_str().unwrap().rsplit_once('.').unwrap().0;
        let mut recipe = client.recipe(kind, "POST", "/all/1", JSON);
        recipe["kid"] = format!("{kid}.{}", now_ms() / 1000 + 60).into();
        let message = Message::made(kind, recipe);
        expect_problem(&message.send(&gateway, "POST", "/all/1"), 400, "DECRYPTION_FAILED");
    }
}
