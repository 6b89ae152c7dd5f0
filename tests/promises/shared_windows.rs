//! Three gateways, one Redis, and more requests than they may let pass: what passes in the worst window.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Gateway, Redis, Setup, Upstream, wait::until_true};

const CONFIG: &str = r#"
[state]
store = "redis"
redis = { url = "env:REDIS_URL", timeout = "20s", @MODE@ }

[upstreams.backend]
servers = ["@BACKEND@"]

[rate_limits.general]
limit = 120
window = "1s"
by = "client_ip"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
rate_limits = ["general"]
"#;

const LIMIT: usize = 120;
const WINDOW: Duration = Duration::from_secs(1);
const INSTANCES: usize = 3;

#[track_caller]
fn start(redis: &Redis, upstream: &Upstream, mode: &str) -> Gateway {
    let setup = Setup::plain(CONFIG).put("BACKEND", upstream.address()).put("MODE", mode);
    let gateway = setup.env("REDIS_URL", &redis.url()).start();
    until_true("the gateway has reached Redis", || gateway.metric("gapura_store_up", &["store=\"redis\""]) > 0.5);
    gateway
}

/// From two clients of each, for three windows. How many were asked, and when those that passed were sent and answered.
fn hammer(gateways: &[Gateway]) -> (usize, Vec<(Duration, Duration)>) {
    let start = Instant::now();
    let client = |gateway: &Gateway| {
        let (mut asked, mut passed) = (0, Vec::new());
        while start.elapsed() < 3 * WINDOW {
            let sent = start.elapsed();
            let status = gateway.get("/").status;
            assert!([200, 429].contains(&status), "{status}");
            asked += 1;
            if status == 200 {
                passed.push((sent, start.elapsed()));
            }
        }
        (asked, passed)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = gateways
            .iter()
            .flat_map(|gateway| [gateway; 2])
            .map(|gateway| scope.spawn(move || client(gateway)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).fold(
            (0, Vec::new()),
            |(asked, mut all), (more, passed)| {
                all.extend(passed);
                (asked + more, all)
            },
        )
    })
}

/// What certainly passed in one window: sent after it began, and answered before it ended.
fn worst(passed: &[(Duration, Duration)]) -> usize {
    let within =
        |since: Duration| passed.iter().filter(|(sent, done)| *sent >= since && *done < since + WINDOW).count();
    passed.iter().map(|(sent, _)| within(*sent)).max().unwrap_or(0)
}

fn decisions(gateways: &[Gateway], place: &str) -> f64 {
    let label = format!("place=\"{place}\"");
    gateways.iter().map(|gateway| gateway.metric("gapura_store_decisions_total", &[&label])).sum()
}

#[test]
fn in_sync_never_more_than_the_limit() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let gateways = [(); INSTANCES].map(|()| start(&redis, &upstream, "mode = \"sync\""));
    let (asked, passed) = hammer(&gateways);
    let worst = worst(&passed);
    println!(
        "sync: {asked} asked of {INSTANCES} gateways, {} passed, {worst} in the worst window of {LIMIT}",
        passed.len()
    );
    assert!(worst <= LIMIT, "{worst}");
    assert!(passed.len() >= LIMIT, "{}", passed.len());
    assert_eq!(decisions(&gateways, "remote") as usize, asked);
}

#[test]
fn in_adaptive_never_more_than_the_stated_bound() {
    let (redis, upstream) = (Redis::start(), Upstream::ok());
    let gateways = [(); INSTANCES].map(|()| start(&redis, &upstream, "mode = \"adaptive\", instances = 3"));
    let (asked, passed) = hammer(&gateways);
    let (worst, bound) = (worst(&passed), LIMIT + LIMIT / 10 / INSTANCES * (INSTANCES - 1));
    let remote = decisions(&gateways, "remote");
    println!(
        "adaptive: {asked} asked of {INSTANCES} gateways, {} passed, {worst} in the worst window of {LIMIT} (bound {bound}); \
         {remote} asked of Redis",
        passed.len()
    );
    assert!(worst <= bound, "{worst}");
    assert!(passed.len() >= LIMIT, "{}", passed.len());
    assert!(remote > 0.0 && decisions(&gateways, "local") > 0.0);
}
