//! One contract, whatever counts: memory, Redis in `sync`, Redis in `adaptive`, by each algorithm.
//!
//! Everything is asked as a route asks it, through the filter, and on real clocks.

use std::{
    cell::Cell,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use gapura_config::{
    model::{self, LimitAlgorithm, LimitCost, LimitKey, LimitMode, OnOutage, RateLimit, RedisMode, ToldCost},
    units::Period,
};
use gapura_filters::{
    contract::{Code, Exchange, Filter, Now, Refusal, Stage},
    metrics::Metrics,
    rate_limit::{CounterStore, MemoryCounters, RateLimits},
};
use http::{HeaderMap, Request};
use tokio::time::sleep;

use crate::{ALGORITHMS, Instance, run, server::Server, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A store, and an algorithm that it counts by.
struct Subject {
    name: String,
    algorithm: LimitAlgorithm,
    counters: CounterStore,
    epoch: Instant,
}

/// The rules of a route.
struct Gate<'a> {
    subject: &'a Subject,
    limits: RateLimits,
    metrics: Metrics,
}

impl Subject {
    fn rule(&self, limit: u64, window: Duration) -> RateLimit {
        RateLimit { algorithm: self.algorithm, ..RateLimit::new(limit, Period(window), LimitKey::ClientIp) }
    }

    fn gate(&self, rules: &[(&str, RateLimit)]) -> Gate<'_> {
        let metrics = Metrics::new().unwrap();
        let rules: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule)).collect();
        let limits = RateLimits::over("route", &rules, Stage::ClientLimits, &self.counters, &metrics);
        Gate { subject: self, limits: limits.unwrap().unwrap(), metrics }
    }
}

impl Gate<'_> {
    fn exchange(&self, client: u8) -> Exchange {
        Exchange::new(Now { monotonic: self.subject.epoch.elapsed(), unix_ms: 0 }, IpAddr::from([192, 0, 2, client]))
    }

    async fn admit(&self, exchange: &mut Exchange) -> Result<(), Refusal> {
        let head = Request::new(()).into_parts().0;
        self.limits.on_request(&head, exchange).await
    }

    /// What the `RateLimit` field says is left.
    async fn ask(&self, client: u8) -> Result<u64, Refusal> {
        let mut exchange = self.exchange(client);
        self.admit(&mut exchange).await?;
        let mut fields = HeaderMap::new();
        self.limits.on_response_headers(&mut fields, &mut exchange);
        let field = fields["ratelimit"].to_str().unwrap();
        Ok(field.split(";r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap())
    }

    async fn passes(&self, client: u8, times: usize) -> usize {
        let mut passed = 0;
        for _ in 0..times {
            passed += usize::from(self.ask(client).await.is_ok());
        }
        passed
    }
}

async fn subjects(server: &Server) -> (Vec<Subject>, [Instance; 2]) {
    let sync = Instance::of(server).await;
    let mode = |redis| model::Redis { mode: RedisMode::Adaptive, instances: Some(1), ..redis };
    let adaptive = Instance::with(&server.url(), mode);
    adaptive.is(true).await;
    let memory = || Arc::new(MemoryCounters::new(1000));
    let shared = |instance: &Instance| CounterStore::Shared {
        shared: instance.store.clone(),
        local: memory(),
        on_outage: OnOutage::Closed,
    };
    let mut subjects = Vec::new();
    for algorithm in ALGORITHMS {
        let stores = [
            ("memory", CounterStore::Memory(memory())),
            ("redis, sync", shared(&sync)),
            ("redis, adaptive", shared(&adaptive)),
        ];
        for (store, counters) in stores {
            // In one Redis the names keep them apart.
            let name = format!("{store}, {algorithm:?}");
            subjects.push(Subject { name, algorithm, counters, epoch: Instant::now() });
        }
    }
    (subjects, [sync, adaptive])
}

#[test]
fn every_store_and_algorithm_keeps_it() {
    run(async {
        let server = Server::start();
        let (subjects, _instances) = subjects(&server).await;
        for subject in &subjects {
            exactly_the_limit(subject).await;
            all_or_nothing(subject).await;
            costs(subject).await;
            observes(subject).await;
            punishes(subject).await;
            recovers(subject).await;
        }
        let short = subjects.iter().map(never_more_in_any_window);
        for windows in short {
            windows.await;
        }
    });
}

/// Keys are counted apart; what is left counts down; a refusal tells when to come back.
async fn exactly_the_limit(subject: &Subject) {
    let name = format!("{} limit", subject.name);
    let gate = subject.gate(&[(&name, subject.rule(40, HOUR))]);
    for client in 1..4 {
        for left in (0..40).rev() {
            assert_eq!(gate.ask(client).await.unwrap(), left, "{name}");
        }
        for _ in 0..5 {
            let refusal = gate.ask(client).await.unwrap_err();
            assert_eq!(refusal.code, Code::RateLimited, "{name}");
            let after = refusal.headers.iter().find(|(name, _)| name == "retry-after").unwrap();
            let after: u64 = after.1.to_str().unwrap().parse().unwrap();
            assert!((1..=3660).contains(&after), "{name}: {after}");
        }
    }
}

/// What one rule refuses is charged to none.
async fn all_or_nothing(subject: &Subject) {
    let [wide, narrow] = ["wide", "narrow"].map(|rule| format!("{} {rule}", subject.name));
    let gate = subject.gate(&[(&wide, subject.rule(50, HOUR)), (&narrow, subject.rule(5, HOUR))]);
    assert_eq!(gate.passes(1, 30).await, 5, "{wide}");
    let alone = subject.gate(&[(&wide, subject.rule(50, HOUR))]);
    assert_eq!(alone.passes(1, 60).await, 45, "{wide}");
}

/// Whole or not at all; and what a response did not use is given back.
async fn costs(subject: &Subject) {
    let [heavy, told] = ["heavy", "told"].map(|rule| format!("{} {rule}", subject.name));
    let gate = subject.gate(&[(&heavy, RateLimit { cost: LimitCost::Fixed(7), ..subject.rule(40, HOUR) })]);
    assert_eq!(gate.passes(1, 20).await, 5, "{heavy}");
    let cost = LimitCost::Told(ToldCost { header: "X-Cost".to_owned(), default: 1, max: 10 });
    let gate = subject.gate(&[(&told, RateLimit { cost, ..subject.rule(40, HOUR) })]);
    for turn in 0..10 {
        let mut exchange = gate.exchange(1);
        assert!(gate.admit(&mut exchange).await.is_ok(), "{told} {turn}");
        let mut fields = HeaderMap::from_iter([("x-cost".parse().unwrap(), "3".parse().unwrap())]);
        gate.limits.on_response_headers(&mut fields, &mut exchange);
        gate.limits.on_complete(&mut exchange).await;
    }
    // 30 of 40 are used: one more reservation fits, and then none.
    assert!(gate.ask(1).await.is_ok() && gate.ask(1).await.is_err(), "{told}");
}

/// It refuses nothing, keeps no other rule from anything, and counts what it would have refused.
async fn observes(subject: &Subject) {
    let [seen, hard] = ["seen", "hard"].map(|rule| format!("{} {rule}", subject.name));
    let observed = RateLimit { mode: LimitMode::Observe, ..subject.rule(3, HOUR) };
    let gate = subject.gate(&[(&seen, observed), (&hard, subject.rule(8, HOUR))]);
    assert_eq!(gate.passes(1, 20).await, 8, "{seen}");
    let would = gate.metrics.rate_limit_decisions.with_label_values(&[&*seen, "would_refuse"]).get();
    assert!(would >= 5, "{seen}: {would}");
}

/// After a refusal a key stays refused, though its window has room again.
async fn punishes(subject: &Subject) {
    let name = format!("{} penalty", subject.name);
    let penalty = Some(Period(HOUR));
    let gate = subject.gate(&[(&name, RateLimit { penalty, ..subject.rule(20, Duration::from_millis(200)) })]);
    until(async || gate.passes(1, 60).await < 60).await;
    sleep(Duration::from_millis(300)).await;
    assert_eq!(gate.passes(1, 20).await, 0, "{name}");
    assert_eq!(gate.passes(2, 20).await, 20, "{name}");
}

/// What has passed is free again.
async fn recovers(subject: &Subject) {
    let name = format!("{} recovers", subject.name);
    let gate = subject.gate(&[(&name, subject.rule(20, Duration::from_millis(200)))]);
    for _ in 0..2 {
        until(async || gate.passes(1, 60).await < 60).await;
        until(async || gate.ask(1).await.is_ok()).await;
    }
}

/// Four clients at once. What certainly passed within a window: was sent after it began and answered before it ended.
async fn never_more_in_any_window(subject: &Subject) {
    let name = format!("{} windows", subject.name);
    let window = Duration::from_millis(200);
    let rule = subject.rule(40, window);
    let gate = subject.gate(&[(&name, rule.clone())]);
    let (start, all) = (Instant::now(), Cell::new(0));
    let client = async || {
        let mut passed = Vec::new();
        // For three windows, and until more than one of them has been filled.
        while start.elapsed() < window * 3 || all.get() <= 60 {
            assert!(start.elapsed() < crate::PATIENCE, "{name}");
            let sent = start.elapsed();
            if gate.ask(1).await.is_ok() {
                passed.push((sent, start.elapsed()));
                all.set(all.get() + 1);
            }
            tokio::task::yield_now().await;
        }
        passed
    };
    let (a, b, c, d) = tokio::join!(client(), client(), client(), client());
    let mut passed = [a, b, c, d].concat();
    passed.sort_unstable();
    let within =
        |since: Duration| passed.iter().filter(|(sent, done)| *sent >= since && *done < since + window).count();
    let worst = passed.iter().map(|(sent, _)| within(*sent)).max().unwrap();
    // `gcra` with `burst = limit` says so itself.
    let most = if subject.algorithm == LimitAlgorithm::Gcra { 80 } else { 40 };
    assert!(worst <= most, "{name}: {worst}");
}
