//! Questions on their way, through the filter that asks them.

use std::sync::atomic::{AtomicUsize, Ordering};

use gapura_config::model::ApiKeys;
use gapura_filters::{
    authentication::{Authentication, Method, Shared},
    contract::{Code, Exchange, Filter, Now},
};
use http::Request;
use tokio::sync::Notify;

use super::*;

/// Answers when it is told to; some keys are too much for it.
#[derive(Default)]
struct Backend {
    asked: AtomicUsize,
    go: Notify,
}

/// Nothing can be made of what is said of it.
const ODD: &str = "odd";

impl Source for Arc<Backend> {
    async fn ask(&self, parameter: &str) -> Result<Vec<Vec<u8>>, Silence> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_ne!(parameter, "too-much");
        if parameter.starts_with(ODD) {
            return Err(Silence::Unreadable("it is odd".into()));
        }
        self.go.notified().await;
        self.go.notify_one();
        Ok(vec![br#"{"active": true, "sub": "u"}"#.to_vec()])
    }
}

struct Gate {
    route: Arc<Authentication>,
    backend: Arc<Backend>,
    metrics: Metrics,
}

fn gate() -> Gate {
    let config =
        r#"{"header": "X-Api-Key", "introspection": {"url": "https://a/b", "max_concurrent": 1, "timeout": "1s"}}"#;
    let config: ApiKeys = serde_json::from_str(config).unwrap();
    let method = Method::api_keys_with("shop", &config, &Shared::default()).unwrap();
    let route = Authentication::new(&Place::root(), vec![method]).unwrap();
    let (backend, metrics) = (Arc::new(Backend::default()), Metrics::new().unwrap());
    for keys in route.foreign_keys() {
        assert!(keys.served_by(Arc::new(Asked::new(Arc::clone(&backend), keys, &metrics))));
    }
    Gate { route: Arc::new(route), backend, metrics }
}

impl Gate {
    fn call(&self, key: &str) -> tokio::task::JoinHandle<Option<Code>> {
        let route = Arc::clone(&self.route);
        let head = Request::get("/").header("x-api-key", key).body(()).unwrap().into_parts().0;
        tokio::spawn(async move {
            let now = Now { monotonic: Duration::ZERO, unix_ms: 1_767_225_600_000 };
            let mut exchange = Exchange::new(now, [192, 0, 2, 1].into());
            route.on_request(&head, &mut exchange).await.err().map(|refusal| refusal.code)
        })
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.key_lookups.with_label_values(&["api_keys.shop", result]).get()
    }
}

async fn settled() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_question_is_for_all_who_wait_and_goes_on_without_them() {
    let gate = gate();
    let first = gate.call("k");
    settled().await;
    let others: Vec<_> = (0..20).map(|_| gate.call("k")).collect();
    settled().await;
    first.abort();
    settled().await;
    gate.backend.go.notify_one();
    for other in others {
        assert_eq!(other.await.unwrap(), None);
    }
    assert_eq!((gate.backend.asked.load(Ordering::Relaxed), gate.count("found")), (1, 1));
    assert_eq!(gate.call("k").await.unwrap(), None, "it is remembered");
    assert_eq!(gate.backend.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn questions_are_bounded_and_so_is_the_time_of_each() {
    let gate = gate();
    let began = Instant::now();
    let calls: Vec<_> = (0..100).map(|n| gate.call(&format!("k{n}"))).collect();
    settled().await;
    assert_eq!(gate.backend.asked.load(Ordering::Relaxed), 1, "one at a time");
    assert_eq!(gate.count("overloaded"), 100 - 33, "one on its way, and 32 that wait");
    for call in calls {
        assert_eq!(call.await.unwrap(), Some(Code::Overloaded));
    }
    // Its turn, and the answer: each within the second.
    assert!(began.elapsed() <= Duration::from_secs(2) + Duration::from_millis(10), "{:?}", began.elapsed());
    // Who did not get a turn is no failure of the backend.
    gate.backend.go.notify_one();
    assert_eq!(gate.call("k0").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_may_fail_altogether() {
    let gate = gate();
    for _ in 0..2 {
        assert_eq!(gate.call("too-much").await.unwrap(), Some(Code::Overloaded));
    }
    assert_eq!(gate.backend.asked.load(Ordering::Relaxed), 2, "it is asked anew");
    gate.backend.go.notify_one();
    assert_eq!(gate.call("k").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_confuses_the_backend_is_no_outage() {
    let gate = gate();
    for n in 0..50 {
        assert_eq!(gate.call(&format!("{ODD}-{n}")).await.unwrap(), Some(Code::Overloaded));
    }
    assert_eq!(gate.call("odd-0").await.unwrap(), Some(Code::Overloaded), "and it is not asked about again");
    assert_eq!(
        (gate.backend.asked.load(Ordering::Relaxed), gate.count("unreadable"), gate.count("skipped")),
        (50, 50, 0)
    );
    gate.backend.go.notify_one();
    assert_eq!(gate.call("k").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_asked_about_seldom() {
    let gate = gate();
    for n in 0..5 {
        assert_eq!(gate.call(&format!("k{n}")).await.unwrap(), Some(Code::Overloaded));
    }
    let began = Instant::now();
    for n in 0..100 {
        assert_eq!(gate.call(&format!("o{n}")).await.unwrap(), Some(Code::Overloaded));
    }
    assert!(began.elapsed() < Duration::from_millis(1), "{:?}", began.elapsed());
    assert_eq!((gate.backend.asked.load(Ordering::Relaxed), gate.count("skipped")), (5, 100));
    tokio::time::sleep(Duration::from_millis(500)).await;
    gate.backend.go.notify_one();
    assert_eq!(gate.call("k").await.unwrap(), None);
    assert_eq!(gate.call("k2").await.unwrap(), None);
}
