//! A slot of a Cluster on its way to another primary, with the counter in it: no charge is forgotten, none is admitted twice.
//!
//! A key that has gone ahead is asked for where it was, and the answer is `ASK`: for that question it is an outage, and `on_outage`
//! decides. A question at the new place would have to bring the consent for it along, which a connection that all share cannot; the
//! slot itself follows within moments, and then `MOVED` is followed.

use std::time::{Duration, Instant};

use gapura_config::model::LimitAlgorithm;

use crate::{Instance, MINUTE, demand, fleets::Cluster, quota, server::Server};

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
    let failed = instance.calls("failed");
    assert_eq!(charge(5).await, 0, "it has gone ahead: an outage of this key");
    assert_eq!(instance.calls("failed"), failed + 5);
    assert!(instance.store.is_up(), "and of no other");

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
