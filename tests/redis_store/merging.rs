//! What an instance counted for itself in an outage is added to Redis after it.

use std::time::Duration;

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Demand, SharedCounters};

use crate::{ALGORITHMS, Instance, MINUTE, demand, quota, run, server::Server, until};

fn key(number: u16) -> [u8; 2] {
    number.to_be_bytes()
}

#[test]
fn local_counts_are_added_and_never_more_than_the_limit() {
    run(async {
        let mut server = Server::start();
        let (one, other) = (Instance::of(&server).await, Instance::of(&server).await);
        server.kill();
        let bound = quota(LimitAlgorithm::SlidingWindow, 10, MINUTE * 60);
        assert!(one.charge(&[demand("r", &bound, b"k")]).await.is_none());
        assert!(other.charge(&[demand("r", &bound, b"k")]).await.is_none());
        for algorithm in ALGORITHMS {
            let quota = quota(algorithm, 10, MINUTE * 60);
            for number in 0..120 {
                // Each instance has let some pass by its own counter, of some keys more than the limit together.
                // What its counter holds beside was granted by Redis before.
                for (cost, held) in [(3, 8), (1, 9)] {
                    one.store.missed(&demand("r", &quota, &key(number)).costing(cost), held);
                }
                // Seven of them have left the counter since.
                for (cost, held) in [(7, 7), (2, if number < 60 { 2 } else { 9 })] {
                    other.store.missed(&demand("r", &quota, &key(number)).costing(cost), held);
                }
            }
        }
        // What does not count any more is not added.
        let short = quota(LimitAlgorithm::SlidingLog, 10, Duration::from_millis(1));
        one.store.missed(&demand("short", &short, b"k"), 5);
        server.restart();
        one.is(true).await;
        other.is(true).await;
        let reader = Instance::of(&server).await;
        until(async || {
            let mut all = true;
            for algorithm in ALGORITHMS {
                // A heavier one than ever passes says what is left, and charges nothing.
                let quota = quota(algorithm, 10, MINUTE * 60);
                for number in 0..120 {
                    let bytes = key(number);
                    let heavy = Demand { cost: 11, ..demand("r", &quota, &bytes) };
                    let left = reader.charge(&[heavy]).await.unwrap()[0].verdict.remaining;
                    all &= left == if number < 60 { 4 } else { 0 };
                    assert!(left >= if number < 60 { 4 } else { 0 });
                }
            }
            all
        })
        .await;
    });
}
