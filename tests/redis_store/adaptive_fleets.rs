//! `mode = "adaptive"` over a Cluster and behind Sentinels: the bound is that of one server, also while a primary changes.

use std::time::{Duration, Instant};

use gapura_config::model::{self, LimitAlgorithm, RedisMode};

use crate::{
    Instance, MINUTE, demand,
    failover::key,
    fleets::{Cluster, PASSWORD, Watched},
    quota, run, secret, until,
};

const INSTANCES: usize = 3;
const LIMIT: u64 = 300;
/// A share is 300 / 10 / 3.
const BOUND: u64 = LIMIT + 10 * (INSTANCES as u64 - 1);

fn adaptive(redis: model::Redis) -> model::Redis {
    model::Redis { mode: RedisMode::Adaptive, instances: Some(INSTANCES as u64), ..redis }
}

/// Far more than may pass, from all in turn. How many passed, and to how many Redis gave no answer.
async fn burst(instances: &[Instance; INSTANCES], rule: &str, key: &[u8]) -> (u64, u64) {
    let quota = quota(LimitAlgorithm::SlidingWindow, LIMIT, MINUTE * 60);
    let (mut passed, mut silent) = (0, 0);
    for turn in 0..2 * LIMIT as usize {
        match instances[turn % INSTANCES].charge(&[demand(rule, &quota, key)]).await {
            Some(counted) => passed += u64::from(counted[0].verdict.allowed),
            None => silent += 1,
        }
    }
    (passed, silent)
}

/// Of this many questions few reach Redis.
fn asked(instances: &[Instance]) -> u64 {
    instances.iter().map(|one| one.metrics.store_decisions.with_label_values(&["redis", "remote"]).get()).sum()
}

/// Keys of all primaries. One of those that were there at first may be dead.
pub(crate) async fn over_a_cluster(cluster: &Cluster) {
    let of = || Instance::with(&cluster.url(), |redis| adaptive(model::Redis { cluster: true, ..redis }));
    let instances = [of(), of(), of()];
    for instance in &instances {
        instance.is(true).await;
    }
    let mut most = 0;
    for number in 9000..9012 {
        let (passed, silent) = burst(&instances, "wide", &key(number)).await;
        assert!((LIMIT..=BOUND).contains(&passed) && silent == 0, "{passed} {silent}");
        most = most.max(passed);
    }
    let (asked, all) = (asked(&instances), 12 * 2 * LIMIT);
    println!(
        "adaptive over a Cluster: at most {most} of {LIMIT} pass (bound {BOUND}); {asked} of {all} asked of Redis"
    );
    assert!(asked < all / 4, "{asked}");
}

#[test]
fn behind_sentinels_and_through_a_planned_failover() {
    run(async {
        let watched = Watched::start();
        let (_kept, password) = secret(PASSWORD);
        let sentinel =
            model::Sentinel { master: Watched::MASTER.into(), username: None, password: Some(password), tls: None };
        let of = || {
            Instance::with(&watched.url(), |redis| adaptive(model::Redis { sentinel: Some(sentinel.clone()), ..redis }))
        };
        let instances = [of(), of(), of()];
        for instance in &instances {
            instance.is(true).await;
        }
        // A rule that they have met.
        let (passed, silent) = burst(&instances, "before", b"k").await;
        assert!((LIMIT..=BOUND).contains(&passed) && silent == 0, "{passed} {silent}");

        // What an operator does before maintenance. The old primary becomes a replica, and says so: READONLY.
        let old = &watched.servers[0];
        old.replicate();
        watched.fail_over();
        let role = || old.try_ask::<redis::Value>(&["ROLE"]);
        until(async || role().is_ok_and(|role| format!("{role:?}").contains("slave"))).await;
        let (start, exact) = (Instant::now(), quota(LimitAlgorithm::SlidingLog, 1_000, MINUTE));
        let mut silent = [0; INSTANCES];
        for (instance, silent) in instances.iter().zip(&mut silent) {
            while instance.charge(&[demand("probe", &exact, b"k")]).await.is_none() {
                *silent += 1;
                assert!(start.elapsed() < crate::PATIENCE);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        println!(
            "Sentinel, planned failover: {silent:?} questions without an answer, exact again after {:.1} s",
            start.elapsed().as_secs_f64()
        );
        let (more, silent) = burst(&instances, "before", b"k").await;
        assert!(passed + more <= BOUND && silent == 0, "what was counted before is counted: {passed} + {more}");
        let (passed, silent) = burst(&instances, "after", b"k").await;
        assert!((LIMIT..=BOUND).contains(&passed) && silent == 0, "{passed} {silent}");
    });
}
