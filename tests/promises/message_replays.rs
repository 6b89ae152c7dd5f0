//! A message passes once, whichever gateway it is sent to; and where it cannot be remembered it does not pass at all.

use crate::support::{
    Gateway, Redis, Upstream, expect_problem,
    messages::{Client, KINDS, route, setup},
    node::Sealer,
    token,
    wait::until_true,
};

const JSON: &str = r#"{"amount": 19.90}"#;

fn tables(state: &str) -> String {
    let all = "profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\nkeyrings = [\"curves\", \"points\", \"sessions\"]";
    let founding = "profile = \"cryptojs\"\nmaster_key = \"env:MASTER_KEY\"";
    [state, &route("all", all), &route("founding", founding)].concat()
}

/// The least that `max_replays` can be.
const ROOM: usize = 1000;
/// Messages of one body: each is remembered on its own.
const MEMBERS: usize = 71;

/// Brings so many new messages, the quick way.
fn fill(gateway: &Gateway, client: &Client, count: usize) {
    let alice = token();
    for first in (0..count).step_by(MEMBERS) {
        let members = (0..MEMBERS.min(count - first)).map(|at| {
            let message = client.seal_member(KINDS[5], "POST", "/many/1", &format!("/{at}"), "1");
            format!("\"{}\"", message.text)
        });
        let body = format!("[{}]", members.collect::<Vec<_>>().join(","));
        let headers = [("Authorization", &*alice), ("Content-Type", "application/json")];
        let answer = gateway.request("POST", "/many/1", &headers, body);
        assert_eq!(answer.status, 200, "{}", answer.lossy());
    }
}

#[test]
fn what_cannot_be_remembered_does_not_pass() {
    let upstream = Upstream::ok();
    let pointers: Vec<String> = (0..MEMBERS).map(|at| format!("\"/{at}\"")).collect();
    let many = format!("profile = \"aes128gcm\"\nkeyrings = [\"sessions\"]\nmembers = [{}]", pointers.join(", "));
    let state = format!("[state]\nmax_replays = {ROOM}\n{}", route("many", &many));
    let gateway = setup(&tables(&state), upstream.address()).start();
    let client = Client::of(&gateway, "/all/1");
    fill(&gateway, &client, ROOM - KINDS.len());
    let seal = |kind| client.seal(kind, "POST", "/all/1", JSON);
    let first = KINDS.map(seal);
    for message in &first {
        assert_eq!(message.send(&gateway, "POST", "/all/1").status, 200, "{:?}", message.kind);
    }
    upstream.forget();
    for kind in KINDS {
        expect_problem(&seal(kind).send(&gateway, "POST", "/all/1"), 503, "OVERLOADED");
        let alone = client.seal(kind, "GET", "/all/1", "");
        expect_problem(&alone.send_alone(&gateway, "GET", "/all/1"), 503, "OVERLOADED");
    }
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    let founding = gateway.request("POST", "/founding/1", &headers, Sealer::alice().seal(JSON).to_string());
    expect_problem(&founding, 503, "OVERLOADED");
    // None of those that passed was forgotten for it.
    for message in &first {
        expect_problem(&message.send(&gateway, "POST", "/all/1"), 409, "ENVELOPE_REPLAYED");
    }
    assert_eq!(upstream.requests().len(), 0);
}

const REDIS: &str = r#"
[state]
store = "redis"

[state.redis]
url = "env:REDIS_URL"
on_outage = "closed"
timeout = "20s"
"#;

#[test]
fn what_one_gateway_has_seen_another_does_not_pass() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let one = setup(&tables(REDIS), upstream.address());
    // The same keys: a message for one opens at the other.
    let keys = ["x25519.pem", "p256.pem"].map(|name| (name, std::fs::read(one.directory().join(name)).unwrap()));
    let mut two = setup(&tables(REDIS), upstream.address());
    for (name, key) in keys {
        two = two.file(name, key);
    }
    let gateways: [Gateway; 2] = [one, two].map(|setup| setup.env("REDIS_URL", &redis.url()).start());
    for gateway in &gateways {
        let up = || gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5;
        until_true("the gateway has reached Redis", up);
    }
    let client = Client::of(&gateways[0], "/all/1");
    for (at, kind) in KINDS.into_iter().enumerate() {
        let message = client.seal(kind, "POST", "/all/1", JSON);
        let (first, second) = (&gateways[at % 2], &gateways[(at + 1) % 2]);
        assert_eq!(message.send(first, "POST", "/all/1").status, 200, "{kind:?}");
        for gateway in [second, first] {
            expect_problem(&message.send(gateway, "POST", "/all/1"), 409, "ENVELOPE_REPLAYED");
        }
        // One message at both at once: one of them passes it.
        let message = client.seal(kind, "POST", "/all/1", JSON);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let send = |at: usize| message.send(&gateways[at % 2], "POST", "/all/1").status;
            let racers: Vec<_> = (0..8).map(|at| scope.spawn(move || send(at))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{kind:?}: {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{kind:?}: {statuses:?}");
    }
    assert_eq!(upstream.requests().len(), 2 * KINDS.len());
    // Without Redis nobody could say; so nothing passes.
    redis.kill();
    for kind in KINDS {
        let message = client.seal(kind, "POST", "/all/1", JSON);
        for gateway in &gateways {
            let answer = message.send(gateway, "POST", "/all/1");
            assert_eq!(answer.status, 503, "{kind:?}: {}", answer.lossy());
        }
    }
    assert_eq!(upstream.requests().len(), 2 * KINDS.len());
}
