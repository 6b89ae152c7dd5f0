//! Guesses lock an address out; nothing that a guesser does locks anyone else out.

use std::{future::Future, net::IpAddr, pin::Pin, sync::Mutex, time::Duration};

use gapura_config::model::LockoutMode;

use super::{
    super::lockout::{Failed, Key, Terms},
    *,
};
use crate::{
    contract::{Now, Services},
    metrics::Metrics,
};

struct Gate {
    door: Arc<Lockout>,
    route: Authentication,
    services: Services,
}

fn gate(change: impl FnOnce(&mut model::Lockout)) -> Gate {
    over(Services::in_memory(1000, 1000, Metrics::new().unwrap().into()), change)
}

fn over(services: Services, change: impl FnOnce(&mut model::Lockout)) -> Gate {
    let mut config = model::Lockout { failures: 3, ..Default::default() };
    change(&mut config);
    let door = Lockout::new(&config, &services).unwrap();
    let methods = vec![jwt("users", &secret_config()), super::api_keys::developers(|_| {})];
    Gate { route: route(methods).noting_failures(Some(Arc::clone(&door))), door, services }
}

const ALICE: &str = "192.0.2.1";
const MALLORY: &str = "198.51.100.1";

fn at(seconds: u64) -> Now {
    Now { monotonic: Duration::from_secs(seconds), unix_ms: NOW_MS + seconds * 1000 }
}

impl Gate {
    /// The door, then authentication, as a chain asks them.
    fn ask(&self, from: &str, fields: &[(&str, &str)], now: Now) -> Result<(), Refusal> {
        use std::task::{Context, Poll, Waker};
        let from: IpAddr = from.parse().unwrap();
        let mut exchange = Exchange::new(now, from);
        let mut request = http::Request::get("/").body(()).unwrap();
        *request.headers_mut() = headers(fields);
        let head = request.into_parts().0;
        self.door.admit(from, now)?;
        let mut future = Box::pin(self.route.on_request(&head, &mut exchange));
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn bearer(&self, from: &str, token: &str, now: Now) -> Result<(), Refusal> {
        self.ask(from, &[("authorization", &format!("Bearer {token}"))], now)
    }
}

/// Of this user, and not signed by the issuer.
fn forged(user: &str) -> String {
    let payload = format!(r#"{{"sub":"{user}","exp":{}}}"#, NOW + 9000);
    forge(r#"{"alg":"HS256"}"#, payload, Algorithm::HS256, &EncodingKey::from_secret(b"a guess"))
}

fn good() -> String {
    with_payload(format!(r#"{{"sub":"u1","exp":{}}}"#, NOW + 9000))
}

fn code(result: Result<(), Refusal>) -> Option<Code> {
    result.err().map(|refusal| refusal.code)
}

/// Not counted, it would tell whoever stole it that it is good elsewhere.
#[test]
fn a_key_from_elsewhere_is_a_guess() {
    let keys = super::api_keys::developers(|config| config.keys[0].allow = Some(vec!["192.0.2.0/24".parse().unwrap()]));
    let mut gate = gate(|_| {});
    gate.route = route(vec![keys]).noting_failures(Some(Arc::clone(&gate.door)));
    let key = [("authorization", "ApiKey ci-key")];
    for _ in 0..3 {
        let refusal = gate.ask(MALLORY, &key, at(0)).unwrap_err();
        assert_eq!(
            (refusal.code, &*refusal.detail),
            (Code::CredentialsInvalid, "The credentials of this request are not valid.")
        );
        assert!(refusal.reason.contains("not for this address"), "{}", refusal.reason);
    }
    assert_eq!(code(gate.ask(MALLORY, &key, at(1))), Some(Code::RateLimited));
    assert_eq!(code(gate.ask(ALICE, &key, at(1))), None);
}

#[test]
fn guesses_lock_an_address_out_for_a_while() {
    let gate = gate(|_| {});
    for guess in ["x.y.z", "", &forged("u1")] {
        assert_eq!(code(gate.bearer(MALLORY, guess, at(100))), Some(Code::CredentialsInvalid), "{guess}");
    }
    // Whatever it presents now, a good credential and none included, the answer is one.
    let texts: Vec<String> = [forged("u1"), forged("nobody"), good()].into();
    let mut answers: Vec<Refusal> =
        texts.iter().map(|token| gate.bearer(MALLORY, token, at(105)).unwrap_err()).collect();
    answers.push(gate.ask(MALLORY, &[], at(105)).unwrap_err());
    answers.push(gate.ask(MALLORY, &[("authorization", "ApiKey ci-key")], at(105)).unwrap_err());
    for refusal in &answers {
        assert_eq!((refusal.code, &refusal.detail), (Code::RateLimited, &answers[0].detail));
        assert_eq!(refusal.headers, answers[0].headers);
        assert_eq!(refusal.reason, answers[0].reason);
    }
    let field = |name: &str| {
        answers[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    assert_eq!(field("retry-after").as_deref(), Some("25"));
    assert_eq!(field("ratelimit").as_deref(), Some("\"lockout\";r=0;t=25"));
    assert_eq!(field("ratelimit-policy").as_deref(), Some("\"lockout\";q=3;w=60"));
    assert!(gate.bearer(ALICE, &good(), at(105)).is_ok(), "another address is not concerned");
    assert!(gate.bearer(MALLORY, &good(), at(130)).is_ok(), "and in the end it is over");
    let text = gate.services.metrics.encode();
    assert!(text.contains("gapura_lockouts_total{by=\"address\"} 1"), "{text}");
    assert!(text.contains("gapura_lockout_refusals_total 5"), "{text}");
}

#[test]
fn what_is_refused_while_locked_makes_it_no_longer() {
    let gate = gate(|_| {});
    for second in 100..130 {
        let refused = gate.bearer(MALLORY, "x", at(second)).unwrap_err();
        let expected = if second < 103 { Code::CredentialsInvalid } else { Code::RateLimited };
        assert_eq!(refused.code, expected, "{second}");
    }
    assert_eq!(code(gate.bearer(MALLORY, "x", at(132))), Some(Code::CredentialsInvalid));
}

#[test]
fn what_an_issuer_made_is_no_guess() {
    let gate = gate(|_| {});
    let expired = with_payload(format!(r#"{{"sub":"u1","exp":{}}}"#, NOW - 900));
    let nobodys = with_payload(format!(r#"{{"exp":{}}}"#, NOW + 900));
    for _ in 0..50 {
        for bad in [
            [("authorization", format!("Bearer {expired}"))].as_slice(),
            &[("authorization", format!("Bearer {nobodys}"))],
            &[("authorization", "ApiKey old-key".to_owned())],
            &[("authorization", "Basic dTpw".to_owned())],
            &[],
        ] {
            let fields: Vec<(&str, &str)> = bad.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let code = code(gate.ask(ALICE, &fields, at(100)));
            assert!(matches!(code, Some(Code::CredentialsInvalid | Code::CredentialsMissing)), "{fields:?}");
        }
    }
    assert!(gate.bearer(ALICE, &good(), at(100)).is_ok());
}

#[test]
fn an_identity_that_is_guessed_from_everywhere_is_watched_and_never_locked_out() {
    let gate = gate(|_| {});
    let address = |n: u64| format!("203.0.113.{n}");
    for n in 0..3 {
        assert_eq!(code(gate.bearer(&address(n), &forged("u1"), at(100))), Some(Code::CredentialsInvalid));
    }
    // From now on one guess is one too many, for whoever makes it.
    assert_eq!(code(gate.bearer(&address(9), &forged("u1"), at(101))), Some(Code::CredentialsInvalid));
    assert_eq!(code(gate.bearer(&address(9), &good(), at(101))), Some(Code::RateLimited));
    // A guess at somebody else counts as ever.
    assert_eq!(code(gate.bearer(&address(10), &forged("u2"), at(101))), Some(Code::CredentialsInvalid));
    assert_eq!(code(gate.bearer(&address(10), &good(), at(101))), None);
    // The user is not concerned, nor are others at the first addresses.
    for from in [ALICE, "2001:db8::1", &address(0)] {
        assert_eq!(code(gate.bearer(from, &good(), at(101))), None, "{from}");
    }
    assert!(gate.services.metrics.encode().contains("gapura_lockouts_total{by=\"identity\"} 1"));
    assert_eq!(code(gate.bearer(&address(11), &forged("u1"), at(131))), Some(Code::CredentialsInvalid));
    assert_eq!(code(gate.bearer(&address(11), &good(), at(131))), None, "watched no more");
}

#[test]
fn exempt_addresses_and_observation_refuse_nothing() {
    for (gate, counted) in [
        (gate(|config| config.exempt = vec!["198.51.100.0/24".parse().unwrap()]), 0),
        (gate(|config| config.mode = LockoutMode::Observe), 1),
    ] {
        for _ in 0..3 {
            assert_eq!(code(gate.bearer(MALLORY, "x", at(100))), Some(Code::CredentialsInvalid));
        }
        assert!(gate.bearer(MALLORY, &good(), at(100)).is_ok());
        let line = format!("gapura_lockouts_total{{by=\"address\"}} {counted}");
        assert!(gate.services.metrics.encode().contains(&line));
    }
    let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
    assert!(Lockout::new(&model::Lockout { mode: LockoutMode::Off, ..Default::default() }, &services).is_none());
}

#[test]
fn a_reload_forgives_nobody() {
    let first = gate(|_| {});
    for _ in 0..3 {
        let _ = first.bearer(MALLORY, "x", at(100));
    }
    let second = over(first.services.clone(), |config| config.failures = 100);
    assert_eq!(code(second.bearer(MALLORY, &good(), at(101))), Some(Code::RateLimited));
}

/// A store of several instances that says what a test wants.
#[derive(Default)]
struct Store(Mutex<(Option<Failed>, Vec<Asked>)>);

type Asked = (Key, Option<Key>);

impl SharedLockouts for Store {
    fn fail<'a>(
        &'a self,
        address: &'a Key,
        identity: Option<&'a Key>,
        _: &'a Terms,
    ) -> Pin<Box<dyn Future<Output = Option<Failed>> + Send + 'a>> {
        let mut store = self.0.lock().unwrap();
        store.1.push((*address, identity.copied()));
        Box::pin(std::future::ready(store.0))
    }

    fn left(&self, _: &Key) -> Option<Duration> {
        None
    }
}

#[test]
fn a_shared_store_is_asked_by_failures_only_and_believed() {
    let store = Arc::new(Store::default());
    let mut services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
    services.lockouts = Arc::new(Lockouts::shared(store.clone()));
    let gate = over(services, |_| {});
    assert!(gate.bearer(MALLORY, &good(), at(100)).is_ok());
    assert!(store.0.lock().unwrap().1.is_empty());
    // It cannot be reached: this instance counts for itself.
    for _ in 0..2 {
        assert_eq!(code(gate.bearer(MALLORY, "x", at(100))), Some(Code::CredentialsInvalid));
    }
    // It knows of nothing here.
    store.0.lock().unwrap().0 = Some(Failed::default());
    assert_eq!(code(gate.bearer(MALLORY, &forged("u1"), at(100))), Some(Code::CredentialsInvalid));
    assert!(gate.bearer(MALLORY, &good(), at(100)).is_ok());
    let locked = Some(Duration::from_secs(7));
    store.0.lock().unwrap().0 = Some(Failed { locked, ..Failed::default() });
    assert_eq!(code(gate.bearer(MALLORY, &forged("u1"), at(100))), Some(Code::CredentialsInvalid));
    assert_eq!(code(gate.bearer(MALLORY, &good(), at(106))), Some(Code::RateLimited));
    assert!(gate.bearer(MALLORY, &good(), at(107)).is_ok());
    let asked = &store.0.lock().unwrap().1;
    assert_eq!(asked.len(), 4);
    assert!(asked[0].1.is_none() && asked[2].1.is_some() && asked[2] == asked[3]);
}
