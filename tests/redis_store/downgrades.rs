//! How strong the envelopes of callers were: told by one instance, known to all; no weaker for a Cluster that moves its slots.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::encryption::{CallerId, Known, SharedDowngrades};

use crate::{AMPLE, Instance, fleets::Cluster, run, server::Server};

const KEEP: Duration = Duration::from_secs(3600);

#[test]
fn the_strongest_is_known_to_all_and_an_outage_is_no_leave() {
    run(async {
        let mut server = Server::start();
        let of = |on_outage| Instance::new(&server.url(), on_outage, AMPLE);
        let [one, open, closed] = [of(OnOutage::Local), of(OnOutage::Open), of(OnOutage::Closed)];
        for instance in [&one, &open, &closed] {
            instance.is(true).await;
        }
        let (caller, other) = ([1; 16], [2; 16]);
        assert!(one.store.tell(caller, 3, KEEP).await && one.store.tell(caller, 1, KEEP).await);
        for instance in [&one, &open, &closed] {
            assert_eq!(instance.store.strongest(caller, 0, 3).await, Known::Strength(3));
            assert_eq!(instance.store.strongest(caller, 0, 2).await, Known::Strength(1), "up to what was asked about");
            assert_eq!(instance.store.strongest(other, 0, 3).await, Known::Strength(0));
        }
        server.kill();
        for (instance, expected) in [(&one, false), (&open, false), (&closed, true)] {
            assert!(!instance.store.tell(other, 3, KEEP).await);
            let known = instance.store.strongest(caller, 0, 3).await;
            assert_eq!(matches!(known, Known::Refused(_)), expected, "{known:?}");
            assert_eq!(known == Known::Unknown, !expected, "{known:?}");
        }
    });
}

/// A slot on its way: what is not at the old server is asked for at the new one, and what is there all the same counts.
pub(crate) async fn move_with_their_slot(instance: &Instance, cluster: &Cluster) {
    let (from, to) = (&cluster.nodes[1], &cluster.nodes[2]);
    let named = |id: CallerId, strength: u8| {
        let tag: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("gapura:downgrade:{{{tag}}}:{strength}")
    };
    let here = || from.ask::<Vec<String>>(&["KEYS", "gapura:downgrade:*"]);
    let mut number = 0;
    let id = loop {
        let id = [number; 16];
        assert!(instance.store.tell(id, 1, KEEP).await);
        if here().contains(&named(id, 1)) {
            break id;
        }
        number += 1;
    };
    let slot = from.ask::<u32>(&["CLUSTER", "KEYSLOT", &named(id, 1)]).to_string();
    let [source, target] = [from, to].map(|node| node.ask::<String>(&["CLUSTER", "MYID"]));
    let set = |node: &Server, how: &[&str]| {
        let () = node.ask(&[&["CLUSTER", "SETSLOT", &slot], how].concat());
    };
    set(to, &["IMPORTING", &source]);
    set(from, &["MIGRATING", &target]);
    assert_eq!(instance.store.strongest(id, 0, 3).await, Known::Strength(1), "it has not moved yet");
    assert!(instance.store.tell(id, 3, KEEP).await);
    assert_eq!(instance.store.strongest(id, 0, 3).await, Known::Strength(3), "what is new is where the slot will be");
    let moved: String = from.ask(&["MIGRATE", "127.0.0.1", &to.port.to_string(), &named(id, 1), "0", "5000"]);
    assert_eq!(moved, "OK");
    assert_eq!(instance.store.strongest(id, 0, 2).await, Known::Strength(1), "it has gone ahead");
    for node in [to, from, &cluster.nodes[3]] {
        set(node, &["NODE", &target]);
    }
}
