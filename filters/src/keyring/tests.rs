//! What loads, and what the operator reads of what does not.

use std::time::Duration;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use gapura_config::{
    fault::Fault,
    model,
    secret::{Secret, SecretRef},
};
use serde_json::{Value, json};

use super::{Key, Keyring, SessionKey, session::Holder};
use crate::contract::{KeyReader, KeyService, Lease, Leased, Purpose, RemoteKey};

const NOW: u64 = 1_790_000_000_000;

fn reference(name: &str) -> String {
    format!("file:{}/tests/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn build(kind: &str, versions: Value) -> Result<Keyring, Vec<Fault>> {
    let config: model::Keyring = serde_json::from_value(json!({ "kind": kind, "versions": versions })).unwrap();
    Keyring::build("ring", &config)
}

fn one(kind: &str, file: &str) -> Result<Keyring, Vec<Fault>> {
    build(kind, json!([{ "id": "1", "key": reference(file), "state": "active" }]))
}

#[test]
fn a_key_is_of_the_kind_of_its_ring() {
    let kinds = [("x25519", "x25519.key"), ("p256", "p256.key"), ("rsa", "rsa.key"), ("secret", "hs256.secret")];
    for (kind, _) in kinds {
        for (of, file) in kinds {
            let built = one(kind, file);
            assert_eq!(built.is_ok(), kind == of, "{kind} {file}");
            if let Err(faults) = built {
                assert_eq!(faults[0].place.to_string(), "keyrings.ring.versions[0].key");
                assert!(faults[0].help.is_some() && !faults[0].message.contains("MC4CAQ"), "{faults:?}");
            }
        }
    }
}

#[test]
fn what_is_no_key_is_said_in_words() {
    for (kind, file, part) in [
        ("x25519", "p256.key", "this key is p256, and the ring is of kind x25519"),
        ("p256", "p384.key", "neither x25519, p256 nor rsa"),
        ("p256", "ed25519.key", "neither x25519, p256 nor rsa"),
        ("rsa", "rsa.pub.pem", "no private key"),
        ("rsa", "hs256.secret", "no PEM"),
        ("secret", "short.secret", "it must have 32 to 4096"),
        ("secret", "rsa.pub.pem", "a PEM file is no secret"),
        ("p256", "nowhere.pem", "cannot be read"),
    ] {
        let faults = one(kind, file).expect_err(file);
        let said = &faults[0].message;
        assert!(said.contains(part), "{kind} {file}: {said}");
    }
    let two = build(
        "x25519",
        json!([
            { "id": "1", "key": "env:GAPURA_NO_SUCH_VARIABLE", "state": "active" },
            { "id": "2", "key": "env:GAPURA_NO_SUCH_VARIABLE", "state": "pending" },
            { "id": "3", "key": "env:GAPURA_NO_SUCH_VARIABLE", "state": "revoked" },
        ]),
    );
    assert_eq!(two.unwrap_err().len(), 2, "each that is read, and no revoked one");
}

#[test]
fn a_public_key_is_what_openssl_says() {
    let rsa = one("rsa", "rsa.key").unwrap();
    let public = rsa.active().unwrap().public().unwrap().members();
    assert_eq!((public["kty"].as_str(), public["e"].as_str()), (Some("RSA"), Some("AQAB")));
    let set: Value = serde_json::from_str(include_str!("../../tests/keys/jwks.json")).unwrap();
    let published = |kid: &str| set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone();
    assert_eq!(public["n"], published("rsa-1")["n"]);
    let point = one("p256", "p256.key").unwrap().active().unwrap().public().unwrap().members();
    assert_eq!((&point["x"], &point["y"]), (&published("ec-1")["x"], &published("ec-1")["y"]));
}

const HOLDER: Holder<'static> = Holder { method: "jwt.users", subject: "u1", token_id: "t1" };
const LIFETIME: Duration = Duration::from_secs(900);

#[test]
fn a_session_key_is_its_callers_until_its_end() {
    let ring = one("secret", "hs256.secret").unwrap();
    let (kid, key) = ring.new_session_key(HOLDER, NOW / 1000 + 900, NOW).unwrap();
    assert_eq!(kid, "ring.1.1790000900");
    let asked = |kid: &str, holder: Holder<'_>, now: u64| ring.session_key(kid, holder, LIFETIME, now);
    let same = |found: Option<SessionKey>| found.is_some_and(|found| found.bytes() == key.bytes());
    assert!(same(asked(&kid, HOLDER, NOW)) && same(asked(&kid, HOLDER, NOW + 899_999)));
    assert!(asked(&kid, HOLDER, NOW + 900_000).is_none(), "over");
    // The clock of who gave it may be a minute ahead, no more.
    assert!(same(asked(&kid, HOLDER, NOW - 60_000)) && asked(&kid, HOLDER, NOW - 60_001).is_none());
    for other in [
        Holder { subject: "u2", ..HOLDER },
        Holder { token_id: "", ..HOLDER },
        Holder { subject: "u1t", token_id: "1", ..HOLDER },
        Holder { method: "jwt.others", ..HOLDER },
        Holder { method: "jwt.usersu", subject: "1", ..HOLDER },
    ] {
        assert!(!same(asked(&kid, other, NOW)), "{other:?}");
    }
    for wrong in [
        "ring.1",
        "ring.1.",
        "ring.1.01790000900",
        "ring.1.+790000900",
        "ring.2.1790000900",
        "other.1.1790000900",
        "1790000900",
        "",
    ] {
        assert!(asked(wrong, HOLDER, NOW).is_none(), "{wrong}");
    }
    assert!(one("x25519", "x25519.key").unwrap().new_session_key(HOLDER, 1, NOW).is_none());
}

#[test]
fn a_retiring_version_ends_at_its_instant() {
    let ring = build(
        "x25519",
        json!([
            { "id": "1", "key": reference("x25519.key"), "state": "active" },
            { "id": "0", "key": reference("x25519.key"), "state": "retiring" },
        ]),
    );
    assert!(ring.unwrap().opening("ring.0", u64::MAX).is_some(), "without `until` it has no end");
    let mut config: model::Keyring = serde_json::from_value(json!({ "kind": "x25519", "versions": [
        { "id": "0", "key": reference("x25519.key"), "state": "retiring" },
    ]}))
    .unwrap();
    config.versions[0].until = Some("2026-09-21T14:13:20Z".parse().unwrap());
    let ring = Keyring::build("ring", &config).unwrap();
    assert!(
        matches!(ring.opening("ring.0", NOW - 1), Some(Key::Agreement(_))) && ring.opening("ring.0", NOW).is_none()
    );
    assert_eq!((ring.all_opening(NOW - 1).count(), ring.all_opening(NOW).count()), (1, 0));
    config.versions[0].until = Some("2026-09-21".parse().unwrap());
    let fault = Keyring::build("ring", &config).unwrap_err().remove(0);
    assert_eq!(fault.place.to_string(), "keyrings.ring.versions[0].until");
}

/// Lends one secret, for as long as it is told.
#[derive(Default)]
pub(crate) struct Lender(pub(crate) Arc<Loan>);

#[derive(Default)]
pub(crate) struct Loan(pub(crate) AtomicBool);

impl Lease for Loan {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn name(&self) -> &str {
        "kms:env:PATH"
    }
}

impl KeyService for Lender {
    fn open(&self, _: &SecretRef) -> Result<Leased, String> {
        Ok(Leased { secret: Secret::new(vec![7; 32]), lease: Arc::clone(&self.0) as Arc<dyn Lease> })
    }
    fn key(&self, _: &str, _: Purpose) -> Result<Arc<dyn RemoteKey>, String> {
        Err("there is none".into())
    }
}

#[test]
fn a_key_on_loan_opens_until_its_lease_is_over() {
    let loan = Arc::new(Loan::default());
    let reader = KeyReader::new(Arc::new(Lender(Arc::clone(&loan))));
    let config: model::Keyring = serde_json::from_value(json!({ "kind": "secret", "versions": [
        { "id": "own", "key": reference("hs256.secret"), "state": "active" },
        { "id": "lent", "key": "kms:env:PATH", "state": "retiring" },
    ] }))
    .unwrap();
    let ring = Keyring::reading("ring", &config, &reader).unwrap();
    assert!(ring.opening("ring.lent", NOW).is_some());
    assert_eq!(ring.active().unwrap().leases().len(), 0, "the active one is ours");
    loan.0.store(true, Ordering::Relaxed);
    assert!(ring.opening("ring.lent", NOW).is_none() && ring.opening("ring.own", NOW).is_some());
    assert_eq!(ring.all_opening(NOW).count(), 1);
    let lent: model::Keyring = serde_json::from_value(
        json!({ "kind": "secret", "versions": [{ "id": "1", "key": "kms:env:SEALED", "state": "active" }] }),
    )
    .unwrap();
    let lent = Keyring::reading("lent", &lent, &reader).unwrap();
    assert!(lent.new_session_key(HOLDER, NOW / 1000 + 900, NOW).is_none());
    loan.0.store(false, Ordering::Relaxed);
    assert!(lent.new_session_key(HOLDER, NOW / 1000 + 900, NOW).is_some());
    assert!(ring.opening("ring.lent", NOW).is_some(), "given again");

    let faults = Keyring::build("ring", &config).unwrap_err();
    assert!(faults[0].message.contains("AWS KMS was not asked"), "{faults:?}");
    let config: model::Keyring = serde_json::from_value(json!({ "kind": "rsa", "versions": [
        { "id": "1", "key": "kms:key:alias/a", "state": "active" },
    ] }))
    .unwrap();
    let faults = Keyring::reading("ring", &config, &reader).unwrap_err();
    assert!(faults[0].message.contains("`kms:key:alias/a`: there is none"), "{faults:?}");
}
