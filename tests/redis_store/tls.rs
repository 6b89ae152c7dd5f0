//! `rediss://`: encrypted, and only to a server whose certificate is good.

use std::{env, fs, process::Command};

use gapura_config::model::{LimitAlgorithm, OnOutage};
use tempfile::TempDir;

use crate::{
    AMPLE, Instance, Journal, MINUTE, demand, quota, run,
    server::{Server, free_port},
    until,
};

const URL: &str = "GAPURA_TEST_REDISS_URL";

/// Which authorities are trusted is read from the environment, so the one who trusts this one is another process.
#[test]
fn a_certificate_decides() {
    if let Ok(url) = env::var(URL) {
        return trusts(&url);
    }
    let dir = TempDir::new().unwrap();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    fs::write(&certificate, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let tls_port = port.to_string();
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().unwrap());
    let options = ["--tls-port", &tls_port, "--tls-cert-file", certificate, "--tls-key-file", key];
    let _server = Server::with(&[&options[..], &["--tls-auth-clients", "no"]].concat());
    let url = format!("rediss://127.0.0.1:{port}");

    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tls::a_certificate_decides", "--nocapture"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", certificate)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && String::from_utf8_lossy(&child.stdout).contains("1 passed"), "{said}");

    run(async {
        let instance = Instance::new(&url, OnOutage::Closed, AMPLE);
        until(async || Journal::count(port, "cannot be asked") == 1).await;
        let quota = quota(LimitAlgorithm::Gcra, 5, MINUTE);
        assert_eq!(instance.charge(&[demand("r", &quota, b"k")]).await, None);
    });
}

fn trusts(url: &str) {
    run(async {
        let instance = Instance::new(url, OnOutage::Closed, AMPLE);
        instance.is(true).await;
        let quota = quota(LimitAlgorithm::Gcra, 5, MINUTE);
        assert!(instance.one("r", &quota, b"k").await.verdict.allowed);
    });
}
