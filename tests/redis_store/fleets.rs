//! A Cluster of six and a Sentinel trio, on free ports of the loopback.

use std::{
    thread,
    time::{Duration, Instant},
};

use redis::Value;

use crate::{PATIENCE, server::Server};

/// Three primaries, each with a replica.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Server>,
}

/// A server with two replicas, and three Sentinels that watch it.
pub(crate) struct Watched {
    pub(crate) servers: Vec<Server>,
    sentinels: Vec<Server>,
}

/// Everyone's password at the servers.
pub(crate) const PASSWORD: &str = "s3rver@word";
/// And at the Sentinels.
const SENTINELS: &str = "s3ntinel";

impl Cluster {
    pub(crate) fn start() -> Self {
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "2500", "--cluster-replica-validity-factor", "0"];
        let options = options.map(str::to_owned).to_vec();
        // Ports of the cluster's bus lie 10 000 above; these are all below 32 000.
        let nodes = Server::several(&vec![options; 6]);
        for (index, node) in nodes.iter().enumerate() {
            let () = node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        for (index, node) in nodes[..3].iter().enumerate() {
            let [first, last] = [index, index + 1].map(|third| third * 16384 / 3);
            let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(last - 1).to_string()]);
        }
        let cluster = Self { nodes };
        cluster.meet();
        for (index, replica) in cluster.nodes[3..].iter().enumerate() {
            let primary: String = cluster.nodes[index].ask(&["CLUSTER", "MYID"]);
            let () = replica.ask(&["CLUSTER", "REPLICATE", &primary]);
        }
        cluster.until("all slots are served", |node| {
            let state: String = node.ask(&["CLUSTER", "INFO"]);
            let slots: Vec<Vec<Value>> = node.ask(&["CLUSTER", "SLOTS"]);
            state.contains("cluster_state:ok") && slots.len() == 3 && slots.iter().all(|range| range.len() == 4)
        });
        for replica in &cluster.nodes[3..] {
            synchronised(replica);
        }
        cluster
    }

    /// Of the nodes that came first, as an operator would write them.
    pub(crate) fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes[..3].iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis://{}", nodes.join(","))
    }

    /// A handshake that takes longer than the nodes' timeout is forgotten by them: then they are introduced again.
    fn meet(&self) {
        let mut introduced = None::<Instant>;
        let all = || self.nodes.iter().all(|node| known(node) == self.nodes.len());
        wait("all nodes know each other", || {
            if introduced.is_none_or(|at| at.elapsed() > Duration::from_secs(5)) {
                for node in &self.nodes[1..] {
                    let () = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &self.nodes[0].port.to_string()]);
                }
                introduced = Some(Instant::now());
            }
            all()
        });
    }

    fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        wait(what, || self.nodes.iter().all(&holds));
    }
}

impl Watched {
    pub(crate) const MASTER: &str = "main";

    pub(crate) fn start() -> Self {
        let login = ["--requirepass", PASSWORD, "--masterauth", PASSWORD];
        let mut first = Server::with(&login);
        first.login = format!(":{}@", PASSWORD.replace('@', "%40"));
        let port = first.port.to_string();
        let replica: Vec<_> =
            login.iter().chain(&["--replicaof", "127.0.0.1", &port]).map(ToString::to_string).collect();
        let mut servers = Server::several(&[replica.clone(), replica]);
        servers.insert(0, first);
        for index in 1..3 {
            servers[index].login = servers[0].login.clone();
            synchronised(&servers[index]);
        }
        let master = Self::MASTER;
        let configuration = format!(
            "bind 127.0.0.1\nrequirepass {SENTINELS}\nsentinel sentinel-pass {SENTINELS}\n\
             sentinel monitor {master} 127.0.0.1 {port} 2\nsentinel auth-pass {master} {PASSWORD}\n\
             sentinel down-after-milliseconds {master} 1500\nsentinel failover-timeout {master} 3000\n"
        );
        let mut sentinels: Vec<_> = (0..3).map(|_| Server::sentinel(&configuration)).collect();
        for sentinel in &mut sentinels {
            sentinel.login = format!(":{SENTINELS}@");
        }
        let knows = |sentinel: &Server| {
            let text: String = sentinel.ask(&["INFO", "sentinel"]);
            text.contains("slaves=2,sentinels=3")
        };
        wait("the Sentinels know each other", || sentinels.iter().all(knows));
        Self { servers, sentinels }
    }

    /// By an operator, while all is well.
    pub(crate) fn fail_over(&self) {
        let () = self.sentinels[0].ask(&["SENTINEL", "FAILOVER", Self::MASTER]);
    }

    /// Of the Sentinels.
    pub(crate) fn url(&self) -> String {
        let nodes: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis://:{SENTINELS}@{}", nodes.join(","))
    }
}

fn known(node: &Server) -> usize {
    let nodes: String = node.ask(&["CLUSTER", "NODES"]);
    nodes.lines().filter(|line| !line.contains("handshake") && !line.contains("fail")).count()
}

fn synchronised(replica: &Server) {
    wait("a replica is in step", || {
        let text: String = replica.ask(&["INFO", "replication"]);
        text.contains("master_link_status:up")
    });
}

pub(crate) fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: it does not happen");
        thread::sleep(Duration::from_millis(20));
    }
}
