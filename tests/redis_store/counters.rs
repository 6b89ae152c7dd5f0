//! Limits: what the rules promise, and that memory and Redis say the same.

use std::{net::IpAddr, sync::Arc, time::Duration};

use gapura_config::{
    model::{self, LimitAlgorithm},
    units::Period,
};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Stage},
    metrics::Metrics,
    rate_limit::{Counted, CounterStore, Demand, MemoryCounters, Quota, RateLimits, SharedCounters, Verdict},
};
use http::{HeaderMap, Request};
use tokio::time::sleep;

use crate::{ALGORITHMS, Instance, MINUTE, demand, keeps_its_word, quota, run, server::Server};

const SHORT: Duration = Duration::from_millis(300);

/// Four connections ask at once for several windows: the bound holds, all of it is handed out, and the wait of a refusal is the
/// instant before which nothing passes.
#[test]
fn never_more_than_the_limit_in_any_window() {
    run(async {
        let server = Server::start();
        for algorithm in ALGORITHMS {
            let quota = quota(algorithm, 25, SHORT);
            let ends = server.clock() + 5 * SHORT.as_micros() as u64;
            let asked = async || {
                let instance = Instance::of(&server).await;
                let (mut counted, mut refused) = (Vec::new(), 0);
                while refused < 10 || counted.last().is_none_or(|last: &Counted| last.at < ends) {
                    counted.push(instance.one("r", &quota, b"k").await);
                    refused += usize::from(counted.last().is_some_and(|last| !last.verdict.allowed));
                    sleep(Duration::from_millis(counted.len() as u64 % 3)).await;
                }
                counted
            };
            let (a, b, c, d) = tokio::join!(asked(), asked(), asked(), asked());
            let all = [a, b, c, d].concat();
            let admitted: Vec<u64> = all.iter().filter(|counted| counted.verdict.allowed).map(|c| c.at).collect();
            keeps_its_word(&quota, &admitted);
            assert!(admitted.len() >= 25, "{}", admitted.len());
            for refused in all.iter().filter(|counted| !counted.verdict.allowed) {
                let passes = refused.at + refused.verdict.wait.as_micros() as u64;
                assert!(passes > refused.at);
                assert!(!admitted.iter().any(|&at| at > refused.at && at < passes), "{algorithm:?}");
            }
        }
    });
}

/// One after the other: what is refused passes at the instant it was told, and not before.
#[test]
fn the_wait_is_exact() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        for algorithm in ALGORITHMS {
            let quota = quota(algorithm, 3, Duration::from_millis(120));
            let (mut told, mut waits) = (None, 0);
            while waits < 4 {
                let Counted { verdict, at } = instance.one("r", &quota, b"k").await;
                if let Some(told) = told {
                    assert_eq!(verdict.allowed, at >= told, "{algorithm:?}");
                }
                if verdict.allowed {
                    waits += usize::from(told.take().is_some());
                } else {
                    let passes = at + verdict.wait.as_micros() as u64;
                    assert_eq!(passes, *told.get_or_insert(passes), "{algorithm:?}: it is told the same each time");
                }
            }
        }
    });
}

/// The memory store, asked at the instants that Redis counted under.
pub(crate) struct Memory {
    limits: RateLimits,
}

impl Memory {
    pub(crate) fn new(quota: &Quota) -> Self {
        let &Quota { algorithm, limit, window, burst, penalty } = quota;
        let burst = (algorithm == LimitAlgorithm::Gcra).then_some(burst);
        let rule = model::RateLimit::new(limit, Period(window), model::LimitKey::Global);
        let penalty = (!penalty.is_zero()).then_some(Period(penalty));
        let rule = model::RateLimit { algorithm, burst, penalty, ..rule };
        let counters = CounterStore::Memory(Arc::new(MemoryCounters::new(1000)));
        let limits = RateLimits::over("", &[("r", &rule)], Stage::ClientLimits, &counters, &Metrics::new().unwrap());
        Self { limits: limits.unwrap().unwrap() }
    }

    /// Whether it passes, and the field with `remaining` and the seconds to wait.
    pub(crate) async fn ask(&self, at: u64) -> (bool, String) {
        let now = Now { monotonic: Duration::from_micros(at), unix_ms: 0 };
        let mut exchange = Exchange::new(now, IpAddr::from([192, 0, 2, 1]));
        let head = Request::new(()).into_parts().0;
        match self.limits.on_request(&head, &mut exchange).await {
            Ok(()) => {
                let mut fields = HeaderMap::new();
                self.limits.on_response_headers(&mut fields, &mut exchange);
                (true, fields["ratelimit"].to_str().unwrap().to_owned())
            }
            Err(refusal) => {
                let field = refusal.headers.iter().find(|(name, _)| name == "ratelimit").unwrap();
                (false, field.1.to_str().unwrap().to_owned())
            }
        }
    }
}

pub(crate) fn field(Verdict { allowed, remaining, wait }: Verdict) -> (bool, String) {
    let seconds = wait.as_micros().div_ceil(1_000_000).max(u128::from(!allowed));
    (allowed, format!("\"r\";r={remaining};t={seconds}"))
}

#[test]
fn redis_and_memory_say_the_same() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        for algorithm in ALGORITHMS {
            for (limit, burst, window) in [
                (20, 7, SHORT),
                (1, 1, Duration::from_millis(7)),
                (300, 200, Duration::from_secs(2)),
                (100, 100, MINUTE),
                (250, 3, MINUTE * 60),
                (4000, 100_000, MINUTE * 60 * 24 * 366),
            ] {
                let quota = Quota { algorithm, limit, window, burst, penalty: Duration::ZERO };
                let memory = Memory::new(&quota);
                for turn in 0..400_u64 {
                    let counted = instance.one("r", &quota, b"g").await;
                    let mut said = [field(counted.verdict), memory.ask(counted.at).await];
                    // The log in memory rounds instants up to less than a billionth of the window: of long ones it is told
                    // a second more.
                    if algorithm == LimitAlgorithm::SlidingLog && window > MINUTE * 15 {
                        said.iter_mut().for_each(|(_, field)| field.truncate(field.find(";t=").unwrap()));
                    }
                    assert_eq!(said[0], said[1], "{quota:?} turn {turn}");
                    if turn % 40 == 39 && window <= SHORT {
                        sleep(window / 3).await;
                    }
                }
            }
        }
    });
}

#[test]
fn rules_of_one_request_are_all_or_nothing() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        let [window, log, gcra] = ALGORITHMS.map(|algorithm| quota(algorithm, 100, MINUTE * 60));
        let narrow = quota(LimitAlgorithm::SlidingWindow, 2, MINUTE * 60);
        let demands = [
            demand("window", &window, b"k"),
            demand("narrow", &narrow, b"k"),
            demand("log", &log, b"k"),
            demand("gcra", &gcra, b"k"),
        ];
        for left in [1, 0] {
            let counted = instance.charge(&demands).await.unwrap();
            assert!(counted.iter().all(|counted| counted.verdict.allowed));
            assert_eq!(counted[1].verdict.remaining, left);
        }
        for _ in 0..50 {
            let counted = instance.charge(&demands).await.unwrap();
            let allowed: Vec<_> = counted.iter().map(|counted| counted.verdict.allowed).collect();
            assert_eq!(allowed, [true, false, true, true]);
            // As if they had not been asked.
            let remaining: Vec<_> = counted.iter().map(|counted| counted.verdict.remaining).collect();
            assert_eq!(remaining, [98, 0, 98, 98]);
            assert!(!counted[1].verdict.wait.is_zero());
        }
        for rule in [&demands[0], &demands[2], &demands[3]] {
            assert_eq!(instance.one(rule.rule, rule.quota, rule.key).await.verdict.remaining, 97);
        }
    });
}

/// A rule that does not bind is charged where it agrees, and keeps nobody from anything.
#[test]
fn what_does_not_bind_is_charged_like_the_rest() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        for algorithm in ALGORITHMS {
            let name = format!("{algorithm:?}");
            let [wide, narrow, observed] = [100, 4, 2].map(|limit| quota(algorithm, limit, MINUTE * 60 * 24));
            let demands = [
                demand("wide", &wide, name.as_bytes()),
                Demand { binding: false, ..demand("observed", &observed, name.as_bytes()) },
                demand("narrow", &narrow, name.as_bytes()),
            ];
            let mut said = Vec::new();
            for _ in 0..6 {
                let counted = instance.charge(&demands).await.unwrap();
                said.push([0, 1, 2].map(|rule| (counted[rule].verdict.allowed, counted[rule].verdict.remaining)));
            }
            assert_eq!(
                said,
                [
                    [(true, 99), (true, 1), (true, 3)],
                    [(true, 98), (true, 0), (true, 2)],
                    // Observed: it would refuse; the others are charged.
                    [(true, 97), (false, 0), (true, 1)],
                    [(true, 96), (false, 0), (true, 0)],
                    // One that binds refuses: none is charged.
                    [(true, 96), (false, 0), (false, 0)],
                    [(true, 96), (false, 0), (false, 0)],
                ],
                "{algorithm:?}"
            );
        }
    });
}

#[test]
fn what_is_given_back_can_be_had_again_and_no_more() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        for algorithm in ALGORITHMS {
            let quota = quota(algorithm, 3, MINUTE * 60 * 24);
            // In part: what a response did not use.
            let heavy = Demand { cost: 3, ..demand("told", &quota, b"k") };
            let at = instance.charge(&[heavy]).await.unwrap()[0].at;
            instance.store.refund(crate::NOW, &[(heavy.costing(2), at)]).await;
            assert_eq!(instance.one("told", &quota, b"k").await.verdict.remaining, 1, "{algorithm:?}");
            // More often than the limit allows.
            for _ in 0..10 {
                let counted = instance.one("r", &quota, b"k").await;
                assert_eq!((counted.verdict.allowed, counted.verdict.remaining), (true, 2), "{algorithm:?}");
                instance.refund("r", &quota, b"k", counted.at).await;
            }
            let mut kept = Vec::new();
            for _ in 0..3 {
                kept.push(instance.one("r", &quota, b"k").await.at);
            }
            assert!(!instance.one("r", &quota, b"k").await.verdict.allowed);
            instance.refund("r", &quota, b"k", kept[2]).await;
            assert!(instance.one("r", &quota, b"k").await.verdict.allowed);
            assert!(!instance.one("r", &quota, b"k").await.verdict.allowed);
            // Of a charge that is not counted any more, and of a counter that is none.
            instance.refund("r", &quota, b"k", kept[0] - 48 * 3600 * 1_000_000).await;
            instance.refund("r", &quota, b"other", kept[0]).await;
            assert!(!instance.one("r", &quota, b"k").await.verdict.allowed, "{algorithm:?}");
        }
    });
}

#[test]
fn instances_share_a_limit() {
    run(async {
        let server = Server::start();
        let instances = [Instance::of(&server).await, Instance::of(&server).await];
        for algorithm in ALGORITHMS {
            let quota = Arc::new(quota(algorithm, 50, MINUTE * 60 * 24));
            let tasks: Vec<_> = (0..16)
                .map(|task| {
                    let (store, quota) = (instances[task % 2].store.clone(), quota.clone());
                    tokio::spawn(async move {
                        let mut passed = 0;
                        for _ in 0..20 {
                            let counted = store.charge(crate::NOW, &[demand("r", &quota, b"k")]).await;
                            passed += u64::from(counted[0].is_some_and(|counted| counted.verdict.allowed));
                        }
                        passed
                    })
                })
                .collect();
            let mut passed = 0;
            for task in tasks {
                passed += task.await.unwrap();
            }
            assert_eq!(passed, 50, "{algorithm:?}");
        }
    });
}

#[test]
fn counters_hold_nothing_personal_and_expire() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        for algorithm in ALGORITHMS {
            let quota = quota(algorithm, 5, MINUTE);
            let counted = instance.one("customers", &quota, b"vjane@example.com").await;
            instance.one("customers", &quota, b"vjane@example.com").await;
            instance.refund("customers", &quota, b"vjane@example.com", counted.at).await;
        }
        let penal = Quota { penalty: MINUTE, ..quota(LimitAlgorithm::SlidingWindow, 1, MINUTE) };
        assert!(instance.one("partners", &penal, b"vjane@example.com").await.verdict.allowed);
        for _ in 0..3 {
            let Verdict { allowed, remaining, wait } =
                instance.one("partners", &penal, b"vjane@example.com").await.verdict;
            assert!(!allowed && remaining == 0 && wait > MINUTE / 2);
        }
        let keys: Vec<String> = server.ask(&["KEYS", "*"]);
        // And that of the probe, for its second.
        assert!((5..=6).contains(&keys.len()), "{keys:?}");
        for key in &keys {
            assert!(
                key.starts_with("gapura:{limits}:")
                    && !key.contains("jane")
                    && !key.contains("customers")
                    && !key.contains("partners")
            );
            let left: i64 = server.ask(&["PTTL", key]);
            // -2: it has expired between the two questions; -1 would be for ever.
            assert!(left == -2 || (0..=63_000).contains(&left), "{key}: {left}");
            let value: redis::Value = server.ask(&["DUMP", key]);
            assert!(!format!("{value:?}").contains("jane"));
        }
    });
}

#[test]
fn a_flush_of_scripts_is_not_noticed() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        let quota = quota(LimitAlgorithm::SlidingWindow, 100, MINUTE * 60);
        for left in (0..20).map(|turn| 99 - turn) {
            if left % 5 == 0 {
                let () = server.ask(&["SCRIPT", "FLUSH"]);
            }
            let counted = instance.one("r", &quota, b"k").await;
            assert_eq!(counted.verdict.remaining, left);
            let () = server.ask(&["SCRIPT", "FLUSH"]);
            instance.refund("r", &quota, b"k", counted.at).await;
            assert_eq!(instance.one("r", &quota, b"k").await.verdict.remaining, left);
        }
        assert_eq!((instance.calls("failed"), instance.calls("late")), (0, 0));
    });
}
