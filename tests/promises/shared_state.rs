//! Several gateways that share a Redis count as one; and without it each does what `on_outage` says.

use crate::{
    envelopes::{TABLES, USER, post},
    support::{Gateway, Redis, Setup, Upstream, credential::key_hash, expect_problem, node::Sealer, wait::until_true},
};

/// What Redis does is the subject, not how soon.
const STATE: &str = r#"
[state]
store = "redis"

[state.redis]
url = "env:REDIS_URL"
on_outage = "@OUTAGE@"
timeout = "20s"
"#;

/// One rule of each algorithm.
const LIMITS: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[rate_limits.window]
limit = 6
window = "1h"
by = "client_ip"

[rate_limits.log]
limit = 6
window = "1h"
by = "client_ip"
algorithm = "sliding_log"

[rate_limits.bucket]
limit = 6
window = "1h"
by = "client_ip"
algorithm = "gcra"

[[routes]]
name = "window"
path = "/window"
upstream = "backend"
rate_limits = ["window"]

[[routes]]
name = "log"
path = "/log"
upstream = "backend"
rate_limits = ["log"]

[[routes]]
name = "bucket"
path = "/bucket"
upstream = "backend"
rate_limits = ["bucket"]

[rate_limits.fresh]
limit = 6
window = "1h"
by = "client_ip"

[[routes]]
name = "fresh"
path = "/fresh"
upstream = "backend"
rate_limits = ["fresh"]

[[routes]]
name = "free"
path = "/free"
upstream = "backend"
"#;

const LIMIT: usize = 6;

/// A gateway that asks this Redis.
#[track_caller]
fn start(tables: &str, redis: &Redis, outage: &str, upstream: &Upstream) -> Gateway {
    let setup = Setup::plain(&format!("{STATE}{tables}")).put("BACKEND", upstream.address());
    let setup = setup.put("OUTAGE", outage).put("CI", key_hash("key-of-ci")).env("REDIS_URL", &redis.url());
    let gateway = setup.start();
    until_true("the gateway has reached Redis", || is_up(&gateway));
    gateway
}

fn is_up(gateway: &Gateway) -> bool {
    gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5
}

#[test]
fn two_gateways_share_one_limit() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let gateways = [(); 2].map(|()| start(LIMITS, &redis, "closed", &upstream));
    for target in ["/window", "/log", "/bucket"] {
        for round in 0..LIMIT {
            let answer = gateways[round % 2].get(target);
            assert_eq!(answer.status, 200, "{target}, request {round}: {}", answer.lossy());
        }
        for gateway in &gateways {
            let refused = gateway.get(target);
            expect_problem(&refused, 429, "RATE_LIMITED");
            assert!(refused.header("retry-after").is_some(), "{target}: no Retry-After");
        }
    }
    assert_eq!(upstream.requests().len(), 3 * LIMIT);
}

/// At the same time, from both: never one more than the limit.
#[test]
fn two_gateways_that_are_asked_at_once_share_one_limit() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let gateways = [(); 2].map(|()| start(LIMITS, &redis, "closed", &upstream));
    for target in ["/window", "/log", "/bucket"] {
        let passed = std::thread::scope(|scope| {
            let ask = |gateway: &Gateway| (0..LIMIT).filter(|_| gateway.get(target).status == 200).count();
            let clients: Vec<_> = gateways
                .iter()
                .flat_map(|gateway| [gateway; 2])
                .map(|gateway| scope.spawn(move || ask(gateway)))
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
        });
        assert_eq!(passed, LIMIT, "{target}");
    }
}

#[test]
fn two_gateways_share_one_memory_of_envelopes() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let gateways = [(); 2].map(|()| start(TABLES, &redis, "closed", &upstream));
    let envelopes = [(); 2].map(|()| Sealer::alice().seal("{}"));
    assert_eq!(post(&gateways[0], USER, &envelopes[0]).status, 200);
    assert_eq!(post(&gateways[1], USER, &envelopes[1]).status, 200);
    for gateway in &gateways {
        for envelope in &envelopes {
            expect_problem(&post(gateway, USER, envelope), 409, "ENVELOPE_REPLAYED");
        }
    }
    assert_eq!(upstream.requests().len(), 2, "a replay reached the upstream");
}

#[test]
fn limits_without_redis() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let [closed, open, local, other] =
        ["closed", "open", "local", "local"].map(|outage| start(LIMITS, &redis, outage, &upstream));
    for _ in 0..LIMIT {
        assert_eq!(closed.get("/window").status, 200);
    }
    for gateway in [&closed, &open, &local, &other] {
        expect_problem(&gateway.get("/window"), 429, "RATE_LIMITED");
    }
    redis.kill();
    for target in ["/window", "/log", "/bucket"] {
        for _ in 0..2 * LIMIT {
            expect_problem(&closed.get(target), 503, "OVERLOADED");
            assert_eq!(open.get(target).status, 200, "{target}: everything passes");
        }
        // Each counts for itself, from nothing.
        for gateway in [&local, &other] {
            for _ in 0..LIMIT {
                assert_eq!(gateway.get(target).status, 200, "{target}");
            }
            expect_problem(&gateway.get(target), 429, "RATE_LIMITED");
        }
    }
    for gateway in [&closed, &open, &local, &other] {
        assert_eq!(gateway.get("/free").status, 200, "nothing is asked of Redis here");
        until_true("the outage is seen", || !is_up(gateway));
    }
    redis.restart();
    for gateway in [&closed, &open, &local, &other] {
        until_true("the gateway is back at Redis", || is_up(gateway));
    }
    // It came back empty, and is one for all again; what instances counted for themselves is added.
    for round in 0..LIMIT {
        let gateway = [&closed, &open, &local, &other][round % 4];
        assert_eq!(gateway.get("/fresh").status, 200, "request {round}");
    }
    for gateway in [&closed, &open, &local, &other] {
        expect_problem(&gateway.get("/fresh"), 429, "RATE_LIMITED");
        for target in ["/window", "/log", "/bucket"] {
            until_true("the outage is counted", || gateway.get(target).status == 429);
        }
    }
}

#[test]
fn envelopes_without_redis() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    let [closed, open, local] = ["closed", "open", "local"].map(|outage| start(TABLES, &redis, outage, &upstream));
    redis.kill();
    let envelope = Sealer::alice().seal("{}");
    expect_problem(&post(&closed, USER, &envelope), 503, "OVERLOADED");
    upstream.expect_untouched();
    for _ in 0..2 {
        assert_eq!(post(&open, USER, &envelope).status, 200, "everything passes");
    }
    assert_eq!(post(&local, USER, &envelope).status, 200);
    expect_problem(&post(&local, USER, &envelope), 409, "ENVELOPE_REPLAYED");
}

/// A Redis that is not there yet keeps nobody from starting.
#[test]
fn a_redis_that_comes_late() {
    let (mut redis, upstream) = (Redis::start(), Upstream::ok());
    redis.kill();
    // The state's own outage stops no start; that of one rule decides for it alone.
    let limits = LIMITS.replacen("limit = 6", "limit = 6\non_outage = \"closed\"", 1);
    let setup = Setup::plain(&format!("{STATE}{limits}")).put("BACKEND", upstream.address()).put("OUTAGE", "local");
    let gateway = setup.env("REDIS_URL", &redis.url()).start();
    expect_problem(&gateway.get("/window"), 503, "OVERLOADED");
    assert_eq!((gateway.get("/log").status, gateway.get("/free").status), (200, 200));
    redis.restart();
    until_true("limits are counted", || gateway.get("/window").status == 200);
}

/// A port that nobody listens on.
#[test]
fn a_start_without_the_store_that_everything_waits_for_fails() {
    let upstream = Upstream::ok();
    let setup = |outage: &str| {
        Setup::plain(&format!("{STATE}{LIMITS}"))
            .put("BACKEND", upstream.address())
            .put("OUTAGE", outage)
            .env("REDIS_URL", "redis://127.0.0.1:1")
    };
    let refused = setup("closed").spawn();
    assert_eq!(refused.exit().code(), Some(3));
    assert!(refused.log().contains("Redis cannot be reached"), "{}", refused.log());
    assert_eq!(setup("local").start().get("/window").status, 200);
}
