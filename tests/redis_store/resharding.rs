//! A slot of a Cluster on its way to another primary, with the counter in it: no charge is forgotten, none is admitted twice.
//!
//! A key that has gone ahead is asked for where it was, and the answer is `ASK`: the question is put to the new place, with the consent
//! that it needs there. When the slot itself has followed, the answer is `MOVED`.

use std::time::{Duration, Instant};

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::SharedCounters;

use crate::{Instance, MINUTE, NOW, demand, fleets::Cluster, quota, server::Server};

const LIMIT: u64 = 30;

fn keys(node: &Server) -> Vec<String> {
    node.ask(&["KEYS", "gapura:*"])
}

/// The first node is dead; its replica has taken over.
pub(crate) async fn moves_a_counter(instance: &Instance, cluster: &Cluster) {
    let quota = quota(LimitAlgorithm::SlidingWindow, LIMIT, MINUTE * 60);
    let (from, to) = (&cluster.nodes[1], &cluster.nodes[2]);
    // A rule whose counter of some key is new there.
    let before = keys(from);
    let mut number = 5000;
    let (key, counter) = loop {
        let key = crate::failover::key(number);
        assert!(instance.one("moving", &quota, &key).await.verdict.allowed);
        if let Some(counter) = keys(from).into_iter().find(|key| !before.contains(key)) {
            break (key, counter);
        }
        number += 1;
    };
    let mut admitted = 1;
    let mut charge = async |times: usize| {
        let mut answered = 0;
        for _ in 0..times {
            if let Some(counted) = instance.charge(&[demand("moving", &quota, &key)]).await {
                answered += 1;
                admitted += u64::from(counted[0].verdict.allowed);
            }
        }
        answered
    };

    let slot = from.ask::<u32>(&["CLUSTER", "KEYSLOT", &counter]).to_string();
    let [source, target] = [from, to].map(|node| node.ask::<String>(&["CLUSTER", "MYID"]));
    let set = |node: &Server, how: &[&str]| {
        let () = node.ask(&[&["CLUSTER", "SETSLOT", &slot], how].concat());
    };
    set(to, &["IMPORTING", &source]);
    set(from, &["MIGRATING", &target]);
    assert_eq!(charge(5).await, 5, "it is still where it was");

    let moved: String = from.ask(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &counter, "0", "5000"]);
    assert_eq!(moved, "OK");
    let (failed, answered) = (instance.calls("failed"), instance.calls("answered"));
    assert_eq!(charge(5).await, 5, "it has gone ahead, and is followed");
    assert!(instance.calls("failed") >= failed + 5 && instance.calls("answered") >= answered + 5);
    assert!(instance.store.is_up());
    // A script that the new place does not know takes two questions, each with its consent.
    let () = to.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(charge(1).await, 1);
    // Everyone else's questions over the same connection keep their own way.
    let others = (7000..7064).map(|number| {
        let (store, quota) = (instance.store.clone(), quota.clone());
        tokio::spawn(async move { store.charge(NOW, &[demand("others", &quota, &crate::failover::key(number))]).await })
    });
    let others: Vec<_> = others.collect();
    assert_eq!(charge(5).await, 5);
    for other in others {
        assert_eq!(other.await.unwrap()[0].expect("an answer").verdict.remaining, LIMIT - 1);
    }
    // A counter that is new begins where its slot will be.
    for left in [LIMIT - 1, LIMIT - 2] {
        assert_eq!(instance.one("fresh", &quota, &key).await.verdict.remaining, left);
    }

    let (end, mut asked) = (Instant::now(), 0);
    set(to, &["NODE", &target]);
    for node in [from, &cluster.nodes[3]] {
        set(node, &["NODE", &target]);
    }
    while charge(1).await == 0 {
        asked += 1;
        assert!(end.elapsed() < crate::PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!(
        "Cluster: a slot that moved with its counter: exact again {:.0} ms and {asked} questions after it arrived",
        end.elapsed().as_secs_f64() * 1000.0
    );
    charge(2 * LIMIT as usize).await;
    assert_eq!(admitted, LIMIT, "what was charged before it moved is charged");
}
