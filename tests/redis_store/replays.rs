//! Envelopes: accepted once, by all instances together.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::{
    contract::Now,
    encryption::{Mark, ReplayId, SharedReplays},
};

use crate::{AMPLE, Instance, NOW, run, server::Server, until};

const KEEP: Duration = Duration::from_secs(600);

fn id(number: u64) -> ReplayId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id
}

impl Instance {
    async fn mark(&self, number: u64) -> Mark {
        self.store.check_and_mark(id(number), KEEP, NOW).await
    }
}

#[test]
fn an_envelope_is_new_once_for_all_instances() {
    run(async {
        let server = Server::start();
        let (one, other) = (Instance::of(&server).await, Instance::of(&server).await);
        assert_eq!(one.mark(1).await, Mark::New);
        assert_eq!(one.mark(1).await, Mark::Seen);
        assert_eq!(other.mark(1).await, Mark::Seen);
        assert_eq!(other.mark(2).await, Mark::New);
        assert_eq!(one.mark(2).await, Mark::Seen);
    });
}

#[test]
fn of_equal_envelopes_at_once_exactly_one_is_new() {
    run(async {
        let server = Server::start();
        let instances = [Instance::of(&server).await, Instance::of(&server).await];
        for round in 0..50 {
            let tasks: Vec<_> = (0..8)
                .map(|task| {
                    let store = instances[task % 2].store.clone();
                    tokio::spawn(async move { store.check_and_mark(id(round), KEEP, NOW).await })
                })
                .collect();
            let mut new = 0;
            for task in tasks {
                new += usize::from(task.await.unwrap() == Mark::New);
            }
            assert_eq!(new, 1);
        }
    });
}

#[test]
fn an_envelope_is_forgotten_when_its_time_is_over_and_not_before() {
    run(async {
        let server = Server::start();
        let instance = Instance::of(&server).await;
        let keep = Duration::from_millis(200);
        let before = server.clock();
        assert_eq!(instance.store.check_and_mark(id(1), keep, NOW).await, Mark::New);
        until(async || instance.store.check_and_mark(id(1), keep, NOW).await == Mark::New).await;
        assert!(server.clock() - before >= 200_000);
        // Every one of them will be.
        instance.mark(2).await;
        let keys: Vec<String> = server.ask(&["KEYS", "gapura:replay:*"]);
        assert!(!keys.is_empty());
        for key in keys {
            let left: i64 = server.ask(&["PTTL", &key]);
            // -2: it has expired between the two questions.
            assert!(left == -2 || (0..=600_001).contains(&left), "{left}");
        }
        // As long as anyone could configure.
        assert_eq!(instance.store.check_and_mark(id(3), Duration::MAX, NOW).await, Mark::New);
        assert_eq!(instance.store.check_and_mark(id(3), Duration::MAX, NOW).await, Mark::Seen);
    });
}

#[test]
fn an_outage_does_what_the_operator_said() {
    run(async {
        let mut server = Server::start();
        let of = |on_outage| Instance::new(&server.url(), on_outage, AMPLE);
        let (local, open, closed) = (of(OnOutage::Local), of(OnOutage::Open), of(OnOutage::Closed));
        for instance in [&local, &open, &closed] {
            instance.is(true).await;
        }
        server.kill();
        for _ in 0..3 {
            assert!(matches!(closed.mark(1).await, Mark::Refused(_)));
            assert_eq!(open.mark(1).await, Mark::New);
        }
        assert_eq!(local.mark(1).await, Mark::New);
        assert_eq!(local.mark(1).await, Mark::Seen);
        // The memory of this instance is bounded, and refuses when it is full.
        for number in 2..=1000 {
            assert_eq!(local.mark(number).await, Mark::New);
        }
        assert!(matches!(local.mark(1001).await, Mark::Refused(_)));
        // Time goes on: there is room again.
        let later = Now { monotonic: KEEP + Duration::from_secs(1), unix_ms: 0 };
        assert_eq!(local.store.check_and_mark(id(1001), KEEP, later).await, Mark::New);
    });
}

/// Accepted by one instance without Redis, refused by every instance with it.
#[test]
fn what_was_accepted_in_an_outage_is_seen_after_it() {
    run(async {
        let mut server = Server::start();
        let instance = Instance::new(&server.url(), OnOutage::Local, AMPLE);
        instance.is(true).await;
        server.kill();
        for number in 0..900 {
            assert_eq!(instance.mark(number).await, Mark::New);
        }
        server.restart();
        instance.is(true).await;
        let other = Instance::of(&server).await;
        for number in 0..900 {
            assert_eq!(other.mark(number).await, Mark::Seen);
            assert_eq!(instance.mark(number).await, Mark::Seen);
        }
        assert_eq!(other.mark(900).await, Mark::New);
        // Redis has lost everything: this instance still knows what it accepted itself.
        let () = server.ask(&["FLUSHALL"]);
        for number in 0..900 {
            assert_eq!(instance.mark(number).await, Mark::Seen);
        }
    });
}
