//! What an answer means and for how long it counts, with a backend that says what a test wants.

use std::{
    future::ready,
    task::{Context, Poll, Waker},
};

use gapura_config::units::Period;
use http::Request;
use parking_lot::Mutex as Lock;

use super::*;
use crate::{
    authentication::{
        Method, Shared,
        tests::{NOW_MS, headers, route},
    },
    contract::{Code, Exchange, Filter, Now, Refusal},
};

/// Says the same to every question, and remembers them. None: it says nothing.
#[derive(Default)]
struct Backend {
    says: Lock<Option<Vec<String>>>,
    asked: Lock<Vec<String>>,
}

struct Issuer(Arc<Backend>);

impl KeyIssuer for Issuer {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        self.0.asked.lock().push(question.parameter().to_string());
        let said = self.0.says.lock().clone();
        let said = said.map(|rows| rows.into_iter().map(String::into_bytes).collect::<Vec<_>>());
        let learned = said.is_some_and(|said| {
            let learned = question.keys.learn(&question, &said);
            learned.map_err(|why| question.keys.unreadable(&question, &why)).is_ok()
        });
        Box::pin(ready(learned))
    }
}

fn config(lookup: &str) -> model::ApiKeys {
    let text = format!(
        "header = \"X-Api-Key\"\n[cache]\nttl = \"60s\"\nmax_entries = 1000\n[lookup]\ndatabase = \"sqlite:/nowhere\"\nquery = \"SELECT $1\"\n{lookup}"
    );
    serde_json::from_value(toml_to_json(&text)).unwrap()
}

/// The few forms that these tests write.
fn toml_to_json(text: &str) -> serde_json::Value {
    let mut value = serde_json::json!({});
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
            value[&table] = serde_json::json!({});
        } else if let Some((key, given)) = line.split_once(" = ") {
            let given: serde_json::Value = serde_json::from_str(given).unwrap();
            if table.is_empty() { value[key] = given } else { value[&table][key] = given }
        }
    }
    value
}

struct Gate {
    route: crate::authentication::Authentication,
    backend: Arc<Backend>,
    keys: Arc<ForeignKeys>,
}

fn gate(config: &model::ApiKeys) -> Gate {
    let route = route(vec![Method::api_keys_with("shop", config, &Shared::default()).unwrap()]);
    let keys = Arc::clone(route.foreign_keys().next().unwrap());
    let backend = Arc::new(Backend::default());
    assert!(keys.served_by(Arc::new(Issuer(Arc::clone(&backend)))));
    Gate { route, backend, keys }
}

impl Gate {
    fn call(&self, key: &str, seconds: u64) -> Result<Exchange, Refusal> {
        let now = Now { monotonic: std::time::Duration::from_secs(seconds), unix_ms: NOW_MS + seconds * 1000 };
        let mut exchange = Exchange::new(now, "192.0.2.1".parse().unwrap());
        let mut request = Request::get("/").body(()).unwrap();
        *request.headers_mut() = headers(&[("x-api-key", key)]);
        let head = request.into_parts().0;
        let mut future = Box::pin(self.route.on_request(&head, &mut exchange));
        let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing here waits")
        };
        drop(future);
        result.map(|()| exchange)
    }

    fn code(&self, key: &str, seconds: u64) -> Option<Code> {
        self.call(key, seconds).err().map(|refusal| refusal.code)
    }

    fn says(&self, rows: &[&str]) {
        *self.backend.says.lock() = Some(rows.iter().map(|row| (*row).to_owned()).collect());
    }

    fn asked(&self) -> usize {
        self.backend.asked.lock().len()
    }
}

const ROW: &str = r#"{"id": 5, "user_id": "u"}"#;

#[test]
fn an_answer_counts_for_its_time_and_longer_while_there_is_none() {
    let gate = gate(&config("hash = \"sha256\""));
    gate.says(&[ROW]);
    assert_eq!((gate.code("k", 0), gate.asked()), (None, 1));
    // SHA-256 of "k".
    assert_eq!(gate.backend.asked.lock()[0], "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a");
    assert_eq!((gate.code("k", 44), gate.asked()), (None, 1));
    // In its last quarter a key in use is asked about once, and nobody waits.
    *gate.backend.says.lock() = None;
    assert_eq!((gate.code("k", 45), gate.code("k", 59), gate.asked()), (None, None, 2));
    // Then each request asks, and without an answer the last one stands, for ten minutes.
    assert_eq!((gate.code("k", 60), gate.code("k", 659), gate.asked()), (None, None, 4));
    assert_eq!(gate.code("k", 660), Some(Code::Overloaded));
    assert_eq!(gate.code("other", 0), Some(Code::Overloaded));
    gate.says(&[]);
    assert_eq!(gate.code("k", 100), Some(Code::CredentialsInvalid));
    *gate.backend.says.lock() = None;
    let asked = gate.asked();
    assert_eq!(
        (gate.code("k", 104), gate.asked()),
        (Some(Code::CredentialsInvalid), asked),
        "it is known to be unknown"
    );
    assert_eq!((gate.code("k", 105), gate.asked()), (Some(Code::Overloaded), asked + 1));
    gate.says(&[ROW]);
    assert_eq!(gate.code("k", 106), None);
    // A clock that is set back makes nothing young.
    gate.says(&[]);
    assert_eq!(gate.code("k", 50), Some(Code::CredentialsInvalid));
}

/// What was known stays, what was not stays unknown, and nobody is asked again at once.
#[test]
fn an_answer_that_cannot_be_read_is_about_its_key_alone() {
    let gate = gate(&config("hash = \"sha256\""));
    gate.says(&[ROW]);
    assert_eq!(gate.code("k", 0), None);
    gate.says(&["["]);
    assert_eq!((gate.code("k", 60), gate.code("k", 64), gate.asked()), (None, None, 2));
    assert_eq!((gate.code("k", 65), gate.code("k", 69), gate.asked()), (None, None, 3));
    for seconds in [65, 69] {
        assert_eq!((gate.code("other", seconds), gate.asked()), (Some(Code::Overloaded), 4));
    }
    // Not for ever.
    assert_eq!(
        (gate.code("k", 661), gate.code("k", 662), gate.asked()),
        (Some(Code::Overloaded), Some(Code::Overloaded), 5)
    );
    gate.says(&[ROW]);
    assert_eq!((gate.code("other", 70), gate.code("k", 670)), (None, None));
    gate.says(&[]);
    assert_eq!(gate.code("k", 800), Some(Code::CredentialsInvalid), "an answer ends it");
}

#[test]
fn whoever_invents_keys_pushes_out_no_good_one() {
    let gate = gate(&config("hash = \"sha256\""));
    gate.says(&[ROW]);
    for n in 0..500 {
        assert_eq!(gate.code(&format!("good-{n}"), 0), None);
    }
    gate.says(&[]);
    for n in 0..5000 {
        assert_eq!(gate.code(&format!("invented-{n}"), 0), Some(Code::CredentialsInvalid));
    }
    let (good, bad) = gate.keys.cache.held();
    assert!(good == 500 && bad <= 1000, "{good} {bad}");
}

#[test]
fn what_a_row_says() {
    let gate = gate(&config("hash = \"sha256\""));
    let mut seconds = 0;
    let mut caller = |row: &str| {
        gate.says(&[row]);
        seconds += 10_000;
        gate.call("k", seconds).map(|exchange| exchange.principal.unwrap()).map_err(|refusal| refusal.code)
    };
    let whole = r#"{"id": "k1", "user_id": 7, "email": "a@b.c", "roles": ["x"], "permissions": "READ, WRITE", "active": true,
        "expires": "2999-01-01T00:00:00+00:00", "limits": "ignored"}"#;
    let principal = caller(whole).unwrap();
    assert_eq!((principal.api_key.as_deref(), principal.user_id.as_str()), (Some("k1"), "7"));
    assert_eq!((principal.roles.join("+"), principal.permissions.join("+")), ("x".into(), "READ+WRITE".into()));
    for good in [
        r#""roles": null, "email": null, "expires": null"#,
        r#""roles": "[\"a\"]", "active": 1"#,
        r#""expires": "2999-01-01 00:00:00.123+00""#,
        r#""expires": "2999-01-01 00:00:00""#,
        r#""expires": 32503680000"#,
        r#""email": """#,
    ] {
        assert!(caller(&format!(r#"{{"id": 1, "user_id": "u", {good}}}"#)).is_ok(), "{good}");
    }
    for bad in [
        r#""active": false"#,
        r#""active": 0"#,
        r#""active": null"#,
        r#""active": "yes""#,
        r#""active": 2"#,
        r#""expires": "2020-01-01 00:00:00""#,
        r#""expires": 1"#,
        r#""expires": 32503680000000"#,
        r#""expires": "soon""#,
        r#""expires": true"#,
        r#""email": 5"#,
        r#""roles": 5"#,
        r#""roles": ["a,b"]"#,
        r#""roles": "[1]""#,
        r#""hash": "no hex""#,
        r#""hash": "00""#,
        r#""hash": 5"#,
    ] {
        assert_eq!(caller(&format!(r#"{{"id": 1, "user_id": "u", {bad}}}"#)), Err(Code::CredentialsInvalid), "{bad}");
    }
    for bad in [r#"{"user_id": "u"}"#, r#"{"id": 1}"#, r#"{"id": "", "user_id": "u"}"#, r#"{"id": 1, "user_id": 0.5}"#]
    {
        assert_eq!(caller(bad), Err(Code::CredentialsInvalid), "{bad}");
    }
    // No answer at all.
    for bad in [r#"{"id": 1, "id": 2, "user_id": "u"}"#, "[]", "", "{"] {
        assert_eq!(caller(bad), Err(Code::Overloaded), "{bad}");
    }
    // Too much of an answer is no outage, which a caller could feign.
    for (n, rows) in
        [vec![ROW; 2], vec![ROW; 17], vec![&format!("{ROW}{}", " ".repeat(70_000))]].into_iter().enumerate()
    {
        gate.says(&rows);
        assert_eq!(gate.code("k", 1_000_000 + n as u64 * 1000), Some(Code::CredentialsInvalid), "{} rows", rows.len());
    }
}

#[test]
fn a_key_without_the_part_that_finds_it_is_not_asked_about() {
    for (find_by, fit, unfit) in
        [("prefix:8", ["12345678x", "äbcdefgx"], ["12345678", "äbcdefg"]), ("before:.", ["a.b", "a.b.c"], ["ab", ".b"])]
    {
        let gate = gate(&config(&format!("hash = \"sha256\"\nfind_by = \"{find_by}\"")));
        gate.says(&[]);
        for key in unfit {
            assert_eq!(gate.code(key, 0), Some(Code::CredentialsInvalid));
        }
        assert_eq!(gate.asked(), 0, "{find_by}");
        for key in fit {
            assert_eq!(gate.code(key, 0), Some(Code::CredentialsInvalid));
        }
        assert_eq!(gate.asked(), 2, "{find_by}");
        // The part alone proves nothing.
        gate.says(&[ROW]);
        assert_eq!(gate.code(fit[0], 100), Some(Code::CredentialsInvalid));
    }
}

#[test]
fn a_reload_finds_what_is_known_unless_something_changed() {
    let shared = Shared::default();
    let keys = |config: &model::ApiKeys| {
        let route = route(vec![Method::api_keys_with("shop", config, &shared).unwrap()]);
        Arc::clone(route.foreign_keys().next().unwrap())
    };
    let config = config("hash = \"sha256\"");
    let first = keys(&config);
    assert!(Arc::ptr_eq(&first, &keys(&config)));
    let mut other = config.clone();
    other.cache.ttl = Period::secs(61);
    assert!(!Arc::ptr_eq(&first, &keys(&other)));
    let mut other = config;
    other.lookup.as_mut().unwrap().query = "SELECT 2, $1".into();
    assert!(!Arc::ptr_eq(&first, &keys(&other)));
    assert!(first.missing().unwrap().starts_with("api_keys.shop: the backend's keys cannot be looked up yet"));
    first.reached();
    first.unreachable("an outage");
    assert_eq!(first.missing(), None, "an outage later makes nothing unready");
}

#[test]
fn a_form_holds_any_octets() {
    assert_eq!(form_encoded("a b+c&d=é*-._~".as_bytes()).as_str(), "a+b%2Bc%26d%3D%C3%A9*-._%7E");
}
