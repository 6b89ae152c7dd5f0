//! A route's rules as a client meets them.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    task::{Context, Poll, Waker},
};

use gapura_config::{
    model::{LimitAlgorithm, LimitBy, LimitKey},
    units::Period,
};
use http::{HeaderMap, Method, Request};
use parking_lot::Mutex;

use super::*;
use crate::contract::{Now, Principal, UserId};

/// A route with its rules, and a clock that stands where it is put.
struct Gate {
    stages: [Option<RateLimits>; 2],
    counters: CounterStore,
    metrics: Metrics,
}

type Rules<'a> = &'a [(&'a str, model::RateLimit)];

fn rule(limit: u64, by: &str) -> model::RateLimit {
    let mut keys: Vec<LimitKey> = by.split(" + ").map(|key| key.parse().unwrap()).collect();
    let by = if keys.len() == 1 { keys.remove(0).into() } else { LimitBy::Each(keys) };
    model::RateLimit::new(limit, Period::secs(60), by)
}

fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("no store here waits"),
    }
}

fn head(fields: &[(&str, &str)]) -> request::Parts {
    let request = fields.iter().fold(Request::builder(), |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

fn exchange(ip: &str, seconds: u64) -> Exchange {
    let now = Now { monotonic: Duration::from_secs(seconds), unix_ms: 0 };
    Exchange::new(now, ip.parse::<IpAddr>().unwrap())
}

fn principal(user: &str, key: Option<&str>) -> Option<Arc<Principal>> {
    Some(Arc::new(Principal {
        method: "api_keys.developers".into(),
        user_id: UserId::string(user),
        email: None,
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: key.map(Into::into),
        token_id: None,
        expires: None,
        limits: Default::default(),
        claims: Default::default(),
    }))
}

impl Gate {
    fn new(rules: Rules) -> Self {
        Self::over(CounterStore::Memory(Arc::new(MemoryCounters::new(1000))), "payments", rules)
    }

    fn over(counters: CounterStore, route: &str, rules: Rules) -> Self {
        let metrics = Metrics::new().unwrap();
        let rules: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule)).collect();
        let stages = [Stage::ClientLimits, Stage::PrincipalLimits]
            .map(|stage| RateLimits::over(route, &rules, stage, &counters, &metrics).unwrap());
        Self { stages, counters, metrics }
    }

    fn ask(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        self.stages.iter().flatten().try_for_each(|filter| now(filter.on_request(head, exchange)))
    }

    fn from(&self, ip: &str) -> Result<(), Refusal> {
        self.ask(&head(&[]), &mut exchange(ip, 10))
    }

    fn user(&self, user: &str, seconds: u64) -> Result<(), Refusal> {
        let mut exchange = Exchange { principal: principal(user, None), ..exchange("192.0.2.1", seconds) };
        self.ask(&head(&[]), &mut exchange)
    }

    fn answer(&self, exchange: &mut Exchange) -> HeaderMap {
        self.answer_with(&[], exchange)
    }

    /// Of an upstream's response, with these headers.
    fn answer_with(&self, sent: &[(&'static str, &'static str)], exchange: &mut Exchange) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in sent {
            fields.append(*name, HeaderValue::from_static(value));
        }
        fields.insert("ratelimit", HeaderValue::from_static("\"upstream\";r=1"));
        // In reverse order, as a chain does.
        self.stages.iter().flatten().rev().for_each(|filter| filter.on_response_headers(&mut fields, exchange));
        fields
    }

    fn complete(&self, exchange: &mut Exchange) {
        self.stages.iter().flatten().rev().for_each(|filter| now(filter.on_complete(exchange)));
    }
}

fn fields(refusal: &Refusal) -> Vec<(&str, &str)> {
    refusal.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
}

#[test]
fn a_refusal_says_when_to_come_back() {
    let gate = Gate::new(&[("general", rule(2, "client_ip"))]);
    assert!(gate.from("192.0.2.1").is_ok() && gate.from("192.0.2.1").is_ok());
    let mut refused = exchange("192.0.2.1", 20);
    let refusal = gate.ask(&head(&[]), &mut refused).unwrap_err();
    assert_eq!(refusal.code, Code::RateLimited);
    // The slice that begins at second 10 leaves when second 71 begins.
    assert_eq!(
        fields(&refusal),
        [("retry-after", "51"), ("ratelimit-policy", "\"general\";q=2;w=60"), ("ratelimit", "\"general\";r=0;t=51")]
    );
    // The problem has them from the refusal, and only from there.
    assert!(!gate.answer(&mut refused).contains_key("ratelimit-policy"));
    assert!(gate.ask(&head(&[]), &mut exchange("192.0.2.1", 70)).is_err());
    assert!(gate.ask(&head(&[]), &mut exchange("192.0.2.1", 71)).is_ok());
    let encoded = gate.metrics.encode();
    assert!(encoded.contains("gapura_rate_limit_decisions_total{result=\"allowed\",rule=\"general\"} 3"), "{encoded}");
    assert!(encoded.contains("gapura_rate_limit_decisions_total{result=\"refused\",rule=\"general\"} 2"), "{encoded}");
}

#[test]
fn a_response_reports_the_tightest_rule_once() {
    let gate = Gate::new(&[("per user", rule(3, "user")), ("general", rule(100, "client_ip"))]);
    let mut exchange = Exchange { principal: principal("u1", None), ..exchange("192.0.2.1", 10) };
    gate.ask(&head(&[]), &mut exchange).unwrap();
    let fields = gate.answer(&mut exchange);
    assert_eq!(fields.get_all("ratelimit").iter().collect::<Vec<_>>(), ["\"per user\";r=2;t=61"]);
    assert_eq!(fields["ratelimit-policy"], "\"per user\";q=3;w=60");
    // Refused in between: what is known of the first stage.
    let mut exchange = self::exchange("192.0.2.1", 10);
    now(gate.stages[0].as_ref().unwrap().on_request(&head(&[]), &mut exchange)).unwrap();
    assert_eq!(gate.answer(&mut exchange)["ratelimit"], "\"general\";r=98;t=61");
}

#[test]
fn a_principal_rule_that_refuses_gives_back_what_the_address_was_charged() {
    let gate =
        Gate::new(&[("general", rule(5, "client_ip")), ("all", rule(9, "global")), ("per user", rule(1, "user"))]);
    assert!(gate.user("u1", 10).is_ok());
    for _ in 0..50 {
        let refusal = gate.user("u1", 10).unwrap_err();
        assert_eq!(fields(&refusal)[2], ("ratelimit", "\"per user\";r=0;t=61"));
    }
    // Four more of five: the fifty were charged to none.
    for user in ["u2", "u3", "u4", "u5"] {
        assert!(gate.user(user, 10).is_ok());
    }
    assert_eq!(fields(&gate.user("u6", 10).unwrap_err())[1], ("ratelimit-policy", "\"general\";q=5;w=60"));
    // Who fails authentication never comes to the second stage, and stays charged.
    let gate = Gate::new(&[("general", rule(5, "client_ip")), ("per user", rule(1, "user"))]);
    let guess = || now(gate.stages[0].as_ref().unwrap().on_request(&head(&[]), &mut exchange("192.0.2.1", 10)));
    assert_eq!((0..50).filter(|_| guess().is_ok()).count(), 5);
}

#[test]
fn rules_of_one_stage_are_all_or_nothing_and_the_longest_wait_is_told() {
    let minute = rule(1, "header:x-tenant");
    let hour = model::RateLimit { window: Period::secs(3600), ..rule(3, "client_ip") };
    let gate = Gate::new(&[("tenant", minute), ("hourly", hour)]);
    let ask = |tenant: &str| gate.ask(&head(&[("x-tenant", tenant)]), &mut exchange("192.0.2.1", 10));
    assert!(ask("a").is_ok());
    (0..9).for_each(|_| assert_eq!(fields(&ask("a").unwrap_err())[0], ("retry-after", "61")));
    assert!(ask("b").is_ok() && ask("c").is_ok());
    // `hourly` is used up: `d` is not charged to its tenant's rule; and of two that refuse the longer is told.
    assert_eq!(fields(&ask("d").unwrap_err())[0], ("retry-after", "3650"));
    assert_eq!(fields(&ask("a").unwrap_err())[0], ("retry-after", "3650"));
    assert!(gate.ask(&head(&[("x-tenant", "d")]), &mut exchange("192.0.2.9", 10)).is_ok());
}

#[test]
fn addresses_count_by_host_or_subscriber() {
    let gate = Gate::new(&[("general", rule(1, "client_ip"))]);
    assert!(gate.from("192.0.2.1").is_ok() && gate.from("192.0.2.2").is_ok());
    assert!(gate.from("::ffff:192.0.2.1").is_err(), "a mapped address is the IPv4 one");
    assert!(gate.from("2001:db8:1:2::1").is_ok());
    assert!(gate.from("2001:db8:1:2:ffff::9").is_err(), "one /64 is one client");
    assert!(gate.from("2001:db8:1:3::1").is_ok());
}

#[test]
fn an_absent_value_is_one_client_never_unlimited() {
    let gate = Gate::new(&[("tenant", rule(1, "header:X-Tenant"))]);
    let ask = |fields: &[(&str, &str)], ip: &str| gate.ask(&head(fields), &mut exchange(ip, 10)).is_ok();
    assert!(ask(&[], "192.0.2.1") && !ask(&[], "198.51.100.7"));
    assert!(ask(&[("x-tenant", "a")], "192.0.2.1"));
    assert!(ask(&[("x-tenant", "a"), ("x-tenant", "b")], "192.0.2.1"));
    assert!(!ask(&[("x-tenant", "a, b")], "192.0.2.1"), "two lines are one list");
    let long = "x".repeat(30_000);
    assert!(ask(&[("x-tenant", &long)], "192.0.2.1") && !ask(&[("x-tenant", &(long + "y"))], "192.0.2.1"));

    let gate = Gate::new(&[("keys", rule(1, "api_key"))]);
    let ask = |principal| gate.ask(&head(&[]), &mut Exchange { principal, ..exchange("192.0.2.1", 10) }).is_ok();
    assert!(ask(principal("u1", Some("ci"))) && !ask(principal("u2", Some("ci"))));
    assert!(ask(principal("u1", None)) && !ask(principal("u2", None)) && !ask(None));
}

#[test]
fn a_full_store_is_seen_in_the_metrics() {
    let store = CounterStore::Memory(Arc::new(MemoryCounters::new(1)));
    let gate = Gate::over(store, "payments", &[("general", rule(2, "client_ip"))]);
    let passed = |ips: [&str; 4]| ips.map(|ip| gate.from(ip).is_ok());
    assert_eq!(passed(["192.0.2.1"; 4]), [true, true, false, false]);
    assert_eq!(passed(["198.51.100.1", "198.51.100.2", "198.51.100.3", "203.0.113.1"]), [true, true, false, true]);
    let encoded = gate.metrics.encode();
    assert!(encoded.contains("gapura_rate_limit_overflow_total{rule=\"general\"} 4"), "{encoded}");
}

#[test]
fn a_rule_is_one_thing_on_all_routes_except_by_route() {
    let store = || CounterStore::Memory(Arc::new(MemoryCounters::new(1000)));
    for (by, shared) in [("client_ip", true), ("global", true), ("route", false)] {
        let first = Gate::over(store(), "first", &[("general", rule(1, by))]);
        let second = Gate::over(first.counters.clone(), "second", &[("general", rule(1, by))]);
        assert!(first.from("192.0.2.1").is_ok());
        assert_eq!(second.from("192.0.2.1").is_err(), shared, "{by}");
    }
}

#[test]
fn a_reload_keeps_every_count() {
    let before = Gate::new(&[("general", rule(3, "client_ip"))]);
    assert!(before.from("192.0.2.1").is_ok() && before.from("192.0.2.1").is_ok());
    let after = Gate::over(before.counters.clone(), "payments", &[("general", rule(4, "client_ip"))]);
    assert!(after.from("192.0.2.1").is_ok());
    assert!(before.from("192.0.2.1").is_err(), "an exchange of the old policy meets the old limit");
    assert!(after.from("192.0.2.1").is_ok() && after.from("192.0.2.1").is_err());
}

#[test]
fn explain_prints_the_guarantee() {
    let gcra = model::RateLimit { algorithm: LimitAlgorithm::Gcra, burst: Some(20), ..rule(100, "api_key") };
    let short = model::RateLimit { window: Period(Duration::from_millis(250)), ..rule(5, "header:X-Tenant") };
    let gate = Gate::new(&[("general", rule(100, "client_ip")), ("api \"x\"", gcra), ("short", short)]);
    let lines: Vec<_> = gate.stages.iter().flatten().flat_map(Filter::explain).collect();
    assert_eq!(
        lines,
        [
            "general: 100 per 60 s by client_ip, sliding_window (60 slices of 1 s): never more than 100 in any 60 s",
            "  worst case 100 in any 60 s, sustained at least 98; 104 bytes per key in memory",
            "short: 5 per 250 ms by header:x-tenant, sliding_window (5 slices of 50 ms): never more than 5 in any 250 ms",
            "  worst case 5 in any 250 ms, sustained at least 4; 48 bytes per key in memory",
            "api \"x\": 100 per 60 s by api_key, gcra (burst 20): at most 20 + floor(100 / 60 s * T) in any T",
            "  worst case 120 in any 60 s, sustained at least 100; 40 bytes per key in memory",
        ]
    );
    let mut short = exchange("192.0.2.1", 10);
    now(gate.stages[0].as_ref().unwrap().on_request(&head(&[]), &mut short)).unwrap();
    assert_eq!(gate.answer(&mut short)["ratelimit-policy"], "\"short\";q=5;w=1");
}

#[test]
fn faults_name_their_place() {
    let log = model::RateLimit { algorithm: LimitAlgorithm::SlidingLog, ..rule(10_000, "global") };
    let gate = Gate::new(&[]);
    assert!(gate.stages.iter().all(Option::is_none), "without rules there is no filter");
    let built = RateLimits::over("r", &[("log", &log)], Stage::ClientLimits, &gate.counters, &gate.metrics);
    let faults = built.err().unwrap();
    assert_eq!(faults[0].0, "rate_limits.log.limit");
    assert!(faults[0].1.contains("sliding_window"), "{}", faults[0].1);
}

mod features;
mod keys;
mod shared;
