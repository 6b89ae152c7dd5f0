//! `mode = "sync"`, a million decisions of one Redis: never more than the limit in any window.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gapura::stores::RedisStore;

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Demand, Quota, SharedCounters};

use crate::{Instance, NOW, quota, run, server::Server};

const DECISIONS: usize = 1_000_000;
const INSTANCES: usize = 2;
/// Questions that are on their way at once, of each instance.
const ABREAST: usize = 16;
/// Counters of one question: each decides for itself.
const KEYS: usize = 25;
const LIMIT: u64 = 200;
const WINDOW: Duration = Duration::from_millis(500);

#[test]
fn never_more_than_the_limit_in_any_window() {
    run(async {
        let server = Server::start();
        let quota = quota(LimitAlgorithm::SlidingWindow, LIMIT, WINDOW);
        let start = Instant::now();
        let mut tasks = Vec::new();
        for _ in 0..INSTANCES {
            let instance = Instance::of(&server).await;
            tasks.extend((0..ABREAST).map(|_| tokio::spawn(ask(instance.store.clone(), quota.clone()))));
        }
        let mut admitted = vec![Vec::new(); KEYS];
        let mut decided = 0;
        for task in tasks {
            let (count, each) = task.await.unwrap();
            decided += count;
            for (all, some) in admitted.iter_mut().zip(each) {
                all.extend(some);
            }
        }
        let worst = admitted.iter_mut().map(|instants| worst(instants)).max().unwrap();
        let passed: usize = admitted.iter().map(Vec::len).sum();
        println!(
            "sync: {decided} decisions on {KEYS} counters in {:.1} s by {INSTANCES} instances, {passed} passed, {worst} in the \
             worst window of {LIMIT}",
            start.elapsed().as_secs_f64()
        );
        assert!(decided >= DECISIONS);
        assert_eq!(worst, LIMIT as usize, "it was asked for more, all the time");
    });
}

/// As many questions as are this task's, one after the other; the instants that each counter has admitted, in µs of Redis' clock.
async fn ask(store: Arc<RedisStore>, quota: Quota) -> (usize, Vec<Vec<u64>>) {
    let keys: Vec<[u8; 2]> = (0..KEYS as u8).map(|key| [b'v', key]).collect();
    // Of one that does not bind the refusal is its own.
    let demands: Vec<_> =
        keys.iter().map(|key| Demand { rule: "r", quota: &quota, key, cost: 1, binding: false }).collect();
    let (mut decided, mut admitted) = (0, vec![Vec::new(); KEYS]);
    for _ in 0..DECISIONS.div_ceil(INSTANCES * ABREAST * KEYS) {
        let counted = store.charge(NOW, &demands).await;
        for (instants, counted) in admitted.iter_mut().zip(counted) {
            let counted = counted.expect("Redis is there");
            decided += 1;
            if counted.verdict.allowed {
                instants.push(counted.at);
            }
        }
    }
    (decided, admitted)
}

/// The most in any window: those younger than it, for each one that may be its last.
fn worst(instants: &mut [u64]) -> usize {
    instants.sort_unstable();
    let (mut first, mut most) = (0, 0);
    for (last, &newest) in instants.iter().enumerate() {
        while newest - instants[first] >= WINDOW.as_micros() as u64 {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}
