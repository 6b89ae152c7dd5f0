//! Over a whole noisy session, no secret, key, credential or plaintext is in a log, a metric or a problem.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    envelopes::{TABLES, USER, send},
    support::{
        Answer, Curl, Flow, Setup, Token, Upstream,
        credential::{key_hash, now_ms},
        gateway::{API_KEY_SALT, JWT_SECRET, MASTER_KEY},
        node::Sealer,
        token,
        wait::until_true,
        wire::chunked,
    },
};

const PLAINTEXT: &str = "plaintext-9c41e7-not-for-any-log";
const ANSWERED: &str = "answered-57d0a2-not-for-any-log";
const API_KEY: &str = "api-key-3b8f60-not-for-any-log";
const COOKIE: &str = "cookie-82c5e1-not-for-any-log";
const QUERY: &str = "query-token-d41a77-not-for-any-log";

/// The other routes hold bodies whole, and Pingora has no part in what they say to the upstream.
const STREAMED: &str = r#"
[[routes]]
name = "streamed"
path = "/streamed/**"
upstream = "backend"
auth = ["jwt.users", "api_keys.developers"]
"#;

#[test]
fn nothing_secret_is_written_anywhere() {
    // Libraries quote what they are sent; no setting lets them.
    let everything = "trace,pingora_core::protocols=trace,pingora_proxy::proxy_h1=trace,h2::codec=trace,redis=trace";
    for level in [None, Some("debug"), Some(everything)] {
        session(level);
    }
}

fn session(level: Option<&str>) {
    let upstream = Upstream::start(|call| {
        call.body();
        match call.heard.target.rsplit('/').next() {
            Some("broken") => Flow::Close,
            Some("rubbish") => {
                call.send(format!("HTTP/1.1 200 {ANSWERED}\r\n{ANSWERED}\r\n\r\n"));
                Flow::Close
            }
            _ => call.respond(200, &[("Content-Type", "application/json")], format!("\"{ANSWERED}\"").as_bytes()),
        }
    });
    let server = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
                  access_log = true\n\n[tls]\nself_signed = true\n";
    let mut setup = Setup::new(&format!("{server}{TABLES}{STREAMED}"))
        .put("BACKEND", upstream.address())
        .put("CI", key_hash(API_KEY));
    if let Some(level) = level {
        setup = setup.env("RUST_LOG", level);
    }
    let gateway = setup.start();
    let alice = Sealer::alice();
    let bearer = token();
    let text = json!({"card": PLAINTEXT}).to_string();
    let envelope = alice.seal(&text);
    let mut broken = envelope.clone();
    broken["encryptedData"] = format!("{}AAAA", envelope["encryptedData"].as_str().unwrap()).into();
    let mut stranger = envelope.clone();
    stranger["userId"] = "u-2".into();
    let forged = format!("Bearer {}", Token::alice().sign_with("a-forger's-secret-of-at-least-32-bytes"));
    let target = format!("{USER}/x?access_token={QUERY}");
    let body = envelope.to_string();

    let mut problems: Vec<Answer> = vec![
        send(&gateway, "POST", &target, &bearer, text.as_bytes()),
        send(&gateway, "POST", &target, &bearer, broken.to_string().as_bytes()),
        send(&gateway, "POST", &target, &bearer, stranger.to_string().as_bytes()),
        send(&gateway, "POST", &target, &bearer, alice.seal_at(&text, now_ms() - 900_000).to_string().as_bytes()),
        send(&gateway, "POST", &target, &forged, body.as_bytes()),
        send(&gateway, "POST", &target, &format!("ApiKey {API_KEY}x"), body.as_bytes()),
        send(&gateway, "POST", &format!("{USER}/broken"), &bearer, alice.seal(&text).to_string().as_bytes()),
        send(&gateway, "POST", &format!("{USER}/rubbish"), &bearer, alice.seal(&text).to_string().as_bytes()),
        send(&gateway, "GET", "/debug/request/lenient/nowhere", &bearer, b""),
        gateway.connect().send(format!("GET / HTTP/1.1\r\nAuthorization : {bearer}\r\n\r\n")).answer("GET"),
    ];
    let good = send(&gateway, "POST", &target, &bearer, body.as_bytes());
    assert_eq!(good.status, 200, "{}", good.lossy());
    problems.push(send(&gateway, "POST", &target, &bearer, body.as_bytes()));
    send(&gateway, "GET", &target, &format!("ApiKey {API_KEY}"), b"");
    send(&gateway, "POST", "/debug/request/lenient", &bearer, text.as_bytes());
    Curl::h2(gateway.https(), &target).header("Authorization", &bearer).answer();
    let cookie = ("Cookie", COOKIE);
    let streamed = [("Authorization", bearer.as_str()), cookie, ("Transfer-Encoding", "chunked")];
    let chunks = chunked(text.as_bytes(), 7);
    assert_eq!(gateway.request("POST", "/streamed", &streamed, &chunks).status, 200);
    for target in ["/streamed/broken", "/streamed/rubbish"] {
        problems.push(gateway.request("POST", target, &streamed, &chunks));
        let key = format!("ApiKey {API_KEY}");
        problems.push(gateway.request("GET", target, &[("Authorization", &key), cookie], b""));
    }
    let broken_chunks = format!("{PLAINTEXT}\r\n{PLAINTEXT}");
    problems.push(gateway.request("POST", "/streamed", &streamed, broken_chunks.as_bytes()));
    let over_h2 = || Curl::h2(gateway.https(), "/streamed").header("Authorization", &bearer).header("Cookie", COOKIE);
    over_h2().answer();
    over_h2().streamed(&text).answer();
    assert!(problems.iter().all(|answer| answer.status >= 400), "{problems:?}");
    // A bad file whose fault stands beside a secret, and a good one.
    gateway.rewrite(&gateway.text().replace("\"env:MASTER_KEY\"", &format!("\"{MASTER_KEY}\"")));
    problems.push(gateway.reload());
    gateway.rewrite(gateway.text());
    assert_eq!(gateway.reload().status, 200);
    let metrics = format!("{:?}", gateway.metrics());
    gateway.signal("TERM");
    gateway.exit();
    until_true("the log has come whole", || gateway.log().ends_with('\n'));

    let signature = bearer.rsplit('.').next().unwrap().to_owned();
    let secrets = BTreeMap::from([
        ("the JWT secret", JWT_SECRET.to_owned()),
        ("the salt", API_KEY_SALT.to_owned()),
        ("the master key", MASTER_KEY.to_owned()),
        ("the passphrase", alice.passphrase(0)),
        ("the API key", API_KEY.to_owned()),
        ("the token's signature", signature),
        ("the forged token's signature", forged.rsplit('.').next().unwrap().to_owned()),
        ("the request's plaintext", PLAINTEXT.to_owned()),
        ("the answer's plaintext", ANSWERED.to_owned()),
        ("the key hash", envelope["keyHash"].as_str().unwrap().to_owned()),
        ("the query", QUERY.to_owned()),
        ("the cookie", COOKIE.to_owned()),
    ]);
    let mut written = vec![("the log", gateway.log()), ("standard output", gateway.output()), ("the metrics", metrics)];
    written.extend(problems.iter().map(|answer| ("a problem", format!("{:?} {}", answer.headers, answer.lossy()))));
    for (place, text) in &written {
        for (what, secret) in &secrets {
            let around = text.find(secret.as_str()).map(|at| {
                let line = text[..at].rfind('\n').map_or(0, |start| start + 1);
                text[line..].lines().next().unwrap_or_default().to_owned()
            });
            assert!(around.is_none(), "{what} is in {place} (RUST_LOG {level:?}): {around:?}");
        }
    }
}
