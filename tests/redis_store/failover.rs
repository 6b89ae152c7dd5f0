//! A Cluster and Sentinels: limits hold while a primary dies, and decisions are exact again when another has taken over.

use std::time::{Duration, Instant};

use gapura_config::model::{self, LimitAlgorithm};
use gapura_filters::encryption::{Mark, SharedReplays};

use crate::{
    ALGORITHMS, Instance, MINUTE,
    adaptive_fleets::over_a_cluster,
    demand, downgrades,
    fleets::{Cluster, PASSWORD, Watched},
    keeps_its_word, quota,
    resharding::moves_a_counter,
    revocations::{held, revoke},
    run, secret,
    server::Server,
    until,
};

fn of(cluster: &Cluster) -> Instance {
    Instance::with(&cluster.url(), |redis| model::Redis { cluster: true, ..redis })
}

pub(crate) fn key(number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [b'v', a, b, c, d]
}

#[test]
fn a_cluster() {
    run(async {
        let mut cluster = Cluster::start();
        counts_as_one(&cluster).await;
        loses_a_primary(&mut cluster).await;
        moves_slots(&cluster).await;
        let instance = of(&cluster);
        instance.is(true).await;
        moves_a_counter(&instance, &cluster).await;
        downgrades::move_with_their_slot(&instance, &cluster).await;
        over_a_cluster(&cluster).await;
    });
}

async fn counts_as_one(cluster: &Cluster) {
    let instances = [of(cluster), of(cluster)];
    for instance in &instances {
        instance.is(true).await;
    }
    for algorithm in ALGORITHMS {
        let quota = quota(algorithm, 5, MINUTE * 60);
        // Keys of all primaries.
        for number in 0..30 {
            let mut passed = 0;
            for turn in 0..12 {
                passed += u32::from(instances[turn % 2].one("r", &quota, &key(number)).await.verdict.allowed);
            }
            assert_eq!(passed, 5, "{algorithm:?} {number}");
        }
    }
    let keys: Vec<usize> = cluster.nodes[..3].iter().map(|node| node.ask(&["DBSIZE"])).collect();
    assert!(keys.iter().all(|&keys| keys > 5), "{keys:?}");

    // Rules of one request whose counters stand on different servers: all or nothing.
    let (wide, narrow) =
        (quota(LimitAlgorithm::SlidingWindow, 40, MINUTE * 60), quota(LimitAlgorithm::Gcra, 3, MINUTE * 60));
    for number in 100..110 {
        let (one, other) = (key(number), key(number + 1000));
        let demands = [demand("wide", &wide, &one), demand("narrow", &narrow, &other)];
        for turn in 0..9 {
            let counted = instances[0].charge(&demands).await.unwrap();
            assert!(counted[0].verdict.allowed);
            assert_eq!(counted[1].verdict.allowed, turn < 3);
        }
        assert_eq!(instances[1].one("wide", &wide, &one).await.verdict.remaining, 36);
    }
    for number in 0..50_u8 {
        assert_eq!(instances[0].store.check_and_mark([number; 16], MINUTE, crate::NOW).await, Mark::New);
        assert_eq!(instances[1].store.check_and_mark([number; 16], MINUTE, crate::NOW).await, Mark::Seen);
    }
    assert_eq!(revoke(&instances[0], "t-1", None).await, Ok(()));
    until(async || held(&instances[1]) == 1).await;
    for instance in &instances {
        assert_eq!((instance.calls("failed"), instance.calls("late"), instance.calls("skipped")), (0, 0, 0));
    }
}

async fn loses_a_primary(cluster: &mut Cluster) {
    let instance = of(cluster);
    instance.is(true).await;
    let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE * 60);
    for number in 0..60 {
        for _ in 0..3 {
            assert!(instance.one("before", &quota, &key(number)).await.verdict.allowed);
        }
    }
    // So that what was counted is on the replica, too.
    cluster.nodes[0].replicate();
    let killed = Instant::now();
    cluster.nodes[0].kill();
    // The keys of the others are counted as ever, those of the dead one are in an outage.
    let (mut silent, mut down) = (0, false);
    for number in 0..60 {
        silent += u32::from(instance.charge(&[demand("other", &quota, &key(number))]).await.is_none());
        down |= !instance.store.is_up();
    }
    assert!((1..=40).contains(&silent) && down, "{silent}");
    instance.is(true).await;
    println!(
        "Cluster: one of three primaries killed: {silent} of 60 keys without an answer, all exact again after {:.1} s",
        killed.elapsed().as_secs_f64()
    );
    until(async || held(&instance) == 1).await;
    for number in 0..60 {
        // Three of five were counted before, and the replica knows.
        assert_eq!(instance.one("before", &quota, &key(number)).await.verdict.remaining, 1, "{number}");
    }
}

/// Slots that move to another primary are followed without an outage.
async fn moves_slots(cluster: &Cluster) {
    let instance = of(cluster);
    instance.is(true).await;
    let quota = quota(LimitAlgorithm::SlidingLog, 100, MINUTE * 60);
    // Those without keys: so no key has to be moved. The first node is dead; its replica has taken over.
    let slots = |first: u32| first..first + 400;
    let empty = |node: &Server, slot: &u32| node.ask::<u32>(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) == 0;
    let from = &cluster.nodes[1];
    let moving: Vec<u32> = slots(16384 / 3).filter(|slot| empty(from, slot)).collect();
    let to: String = cluster.nodes[2].ask(&["CLUSTER", "MYID"]);
    for node in [from, &cluster.nodes[2], &cluster.nodes[3]] {
        for slot in &moving {
            let () = node.ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &to]);
        }
    }
    let (before, mut numbers) = (instance.calls("failed"), 0_u32);
    // Some of these keys are met in slots that have moved.
    while instance.calls("failed") == before {
        assert!(instance.charge(&[demand("moved", &quota, &key(numbers))]).await.is_some());
        numbers += 1;
    }
    until(async || {
        let before = instance.calls("failed");
        for number in 0..numbers {
            assert!(instance.charge(&[demand("moved", &quota, &key(number))]).await.is_some());
        }
        instance.calls("failed") == before
    })
    .await;
    assert!(instance.store.is_up());
}

#[test]
fn sentinels_name_another_server() {
    run(async {
        let mut watched = Watched::start();
        let (_kept, password) = secret(PASSWORD);
        let sentinel =
            model::Sentinel { master: Watched::MASTER.into(), username: None, password: Some(password), tls: None };
        let url = watched.url();
        let of = || {
            let with = |redis| model::Redis { sentinel: Some(sentinel.clone()), ..redis };
            Instance::with(&url, with)
        };
        let instances = [of(), of(), of()];
        for instance in &instances {
            instance.is(true).await;
        }
        let quota = quota(LimitAlgorithm::SlidingWindow, 40, Duration::from_secs(2));
        let mut admitted = Vec::new();
        let (mut killed, mut exact) = (None, None);
        let start = Instant::now();
        // Until some windows after the other server has taken over.
        while exact.is_none_or(|exact: Instant| exact.elapsed() < Duration::from_secs(3)) {
            assert!(start.elapsed() < crate::PATIENCE);
            let mut answered = 0;
            for instance in &instances {
                if let Some(counted) = instance.charge(&[demand("r", &quota, b"k")]).await {
                    answered += 1;
                    if counted[0].verdict.allowed {
                        admitted.push(counted[0].at);
                    }
                }
            }
            if killed.is_none() && admitted.len() >= 30 {
                assert_eq!(revoke(&instances[0], "t-1", None).await, Ok(()));
                watched.servers[0].replicate();
                watched.servers[0].kill();
                killed = Some(Instant::now());
            } else if let (Some(killed), None) = (killed, exact)
                && killed.elapsed() > Duration::from_millis(300)
                && answered == instances.len()
            {
                exact = Some(Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        let away = exact.unwrap() - killed.unwrap();
        let fresh = of();
        until(async || held(&fresh) == 1 && held(&instances[1]) == 1).await;
        // All of it had reached the replica: nothing is forgotten.
        keeps_its_word(&quota, &admitted);
        let within = |since: &u64| admitted.iter().filter(|at| (*since..since + 2_000_000).contains(at)).count();
        let worst = admitted.iter().map(within).max().unwrap();
        println!(
            "Sentinel: primary killed: {} admitted, {worst} in the worst 2 s of 40; exact again after {:.1} s",
            admitted.len(),
            away.as_secs_f64()
        );
        assert!(!crate::Journal::holds("s3rver") && !crate::Journal::holds("s3ntinel"));
    });
}
