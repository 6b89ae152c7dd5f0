//! `rediss://` to a Cluster and to Sentinels: every connection, also those to servers that others have named.

use std::{env, fs, process::Command};

use gapura_config::model::{self, LimitAlgorithm};
use tempfile::TempDir;

use crate::{
    Instance, MINUTE,
    failover::key,
    quota, run,
    server::{Server, free_port},
};

const CLUSTER: &str = "GAPURA_TEST_REDISS_CLUSTER";
const SENTINEL: &str = "GAPURA_TEST_REDISS_SENTINEL";

/// A certificate for the loopback, and the options of a server that speaks TLS by it on another port.
struct Certified {
    certificate: String,
    key: String,
    _folder: TempDir,
}

impl Certified {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key) = (path("certificate.pem"), path("key.pem"));
        fs::write(&certificate, certified.cert.pem()).unwrap();
        fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        Self { certificate, key, _folder: folder }
    }

    fn options(&self, port: u16) -> Vec<String> {
        let port = port.to_string();
        let options = ["--tls-port", &port, "--tls-cert-file", &self.certificate, "--tls-key-file", &self.key];
        let more = ["--tls-ca-cert-file", &self.certificate, "--tls-auth-clients", "no", "--tls-replication", "yes"];
        options.iter().chain(&more).map(ToString::to_string).collect()
    }

    /// The test of this name once more, as a process that trusts this certificate.
    fn trusted_by(&self, test: &str, variable: &str, url: &str) {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, url)
            .env("SSL_CERT_FILE", &self.certificate)
            .output()
            .unwrap();
        let [out, err] = [&child.stdout, &child.stderr].map(|said| String::from_utf8_lossy(said).into_owned());
        assert!(child.status.success() && out.contains("1 passed"), "{out}{err}");
    }
}

/// Exact, of keys that stand wherever they do.
async fn counts(instance: &Instance) {
    instance.is(true).await;
    let quota = quota(LimitAlgorithm::SlidingWindow, 3, MINUTE);
    for number in 0..20 {
        for turn in 0..5 {
            assert_eq!(instance.one("r", &quota, &key(number)).await.verdict.allowed, turn < 3);
        }
    }
    assert_eq!((instance.calls("failed"), instance.calls("late"), instance.calls("skipped")), (0, 0, 0));
}

#[test]
fn a_cluster_over_tls() {
    if let Ok(url) = env::var(CLUSTER) {
        return run(async { counts(&Instance::with(&url, |redis| model::Redis { cluster: true, ..redis })).await });
    }
    let certified = Certified::new();
    let ports = [(); 3].map(|()| free_port());
    let options = ports.map(|port| {
        let cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes"].map(str::to_owned);
        [certified.options(port), cluster.to_vec()].concat()
    });
    let nodes = Server::several(&options);
    for (index, node) in nodes.iter().enumerate() {
        let () = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &ports[0].to_string()]);
        let [first, last] = [index, index + 1].map(|third| third * 16384 / 3);
        let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(last - 1).to_string()]);
    }
    crate::fleets::wait("the nodes agree", || {
        nodes.iter().all(|node| node.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    // The other two are named by the first.
    certified.trusted_by("tls_fleets::a_cluster_over_tls", CLUSTER, &format!("rediss://127.0.0.1:{}", ports[0]));
    let counters: Vec<usize> = nodes.iter().map(|node| node.ask(&["DBSIZE"])).collect();
    assert!(counters.iter().all(|&counters| counters > 0), "{counters:?}");
}

#[test]
fn sentinels_over_tls() {
    if let Ok(url) = env::var(SENTINEL) {
        let sentinel = model::Sentinel { master: "main".into(), username: None, password: None, tls: None };
        return run(async {
            counts(&Instance::with(&url, |redis| model::Redis { sentinel: Some(sentinel), ..redis })).await;
        });
    }
    let certified = Certified::new();
    let (server_port, sentinel_port) = (free_port(), free_port());
    let server = Server::several(&[certified.options(server_port)]).remove(0);
    // As a file has it, and with the server's TLS port: so it is what the Sentinel names.
    let lines: Vec<String> =
        certified.options(sentinel_port).chunks(2).map(|pair| pair.join(" ").replacen("--", "", 1)).collect();
    let watch = format!("sentinel monitor main 127.0.0.1 {server_port} 1\n");
    let sentinel = Server::sentinel(&format!("bind 127.0.0.1\n{}\n{watch}", lines.join("\n")));
    crate::fleets::wait("the Sentinel sees the server", || {
        sentinel.ask::<String>(&["INFO", "sentinel"]).contains("status=ok")
    });
    let url = format!("rediss://127.0.0.1:{sentinel_port}");
    certified.trusted_by("tls_fleets::sentinels_over_tls", SENTINEL, &url);
    assert!(server.ask::<usize>(&["DBSIZE"]) > 0);
}
