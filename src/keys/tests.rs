//! Providers of every kind, under a clock that stands still until all wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};

use gapura_config::{fault::Place, model};
use gapura_filters::authentication::{Authentication, KeySets, KeySource, Location, Method};
use gapura_filters::contract::Code;
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;

const SET: &str = include_str!("../../filters/tests/keys/jwks.json");
const RSA: &[u8] = include_bytes!("../../filters/tests/keys/rsa.key");
const NOW_MS: u64 = 1_767_225_600_000;

/// What a provider does with a request for this address.
type Behaviour = Arc<dyn Fn(&str) -> Option<Result<Page, String>> + Send + Sync>;

/// A provider whose behaviour a test changes. Without an answer it lets its callers wait.
#[derive(Clone)]
struct Provider(Arc<(Mutex<Behaviour>, AtomicUsize)>);

impl Provider {
    fn new(behaviour: impl Fn(&str) -> Option<Result<Page, String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new((Mutex::new(Arc::new(behaviour)), AtomicUsize::new(0))))
    }
    fn serving(text: &'static str) -> Self {
        Self::new(move |_| Some(Ok(page(text))))
    }
    fn becomes(&self, other: &Self) {
        let behaviour = Arc::clone(&other.0.0.lock());
        *self.0.0.lock() = behaviour;
    }
    fn down() -> Self {
        Self::new(|_| Some(Err("connection refused".into())))
    }
    fn asked(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Web for Provider {
    async fn get(&self, uri: &Uri, _ca: Option<&Path>, max: u64) -> Result<Page, String> {
        assert_eq!(max, 256 * 1024);
        self.0.1.fetch_add(1, Ordering::SeqCst);
        let behaviour = Arc::clone(&self.0.0.lock());
        match behaviour(&uri.to_string()) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn page(text: &'static str) -> Page {
    Page { status: StatusCode::OK, location: None, body: Bytes::from_static(text.as_bytes()) }
}

fn redirect(location: &str) -> Page {
    Page { status: StatusCode::FOUND, location: Some(location.to_owned()), body: Bytes::new() }
}

fn set() -> Arc<KeySet> {
    KeySets::default().of(source(Location::Set("https://id.test/keys".into())))
}

fn source(location: Location) -> KeySource {
    KeySource { method: "jwt.users".into(), location, ca: None }
}

fn follow_with(set: &Arc<KeySet>, provider: &Provider) -> Metrics {
    let metrics = Metrics::new().unwrap();
    follow(set, provider.clone(), &metrics);
    metrics
}

/// Lets the tasks run that can.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_at_once_and_again_in_time() {
    let (set, provider) = (set(), Provider::serving(SET));
    assert_eq!(set.missing().as_deref(), Some("jwt.users: no keys yet: they are being fetched"));
    let metrics = follow_with(&set, &provider);
    settle().await;
    assert_eq!((set.missing(), provider.asked()), (None, 1));
    sleep(secs(269)).await;
    assert_eq!(provider.asked(), 1, "a tenth of 300 s early at most");
    sleep(secs(61)).await;
    assert_eq!(provider.asked(), 2, "a tenth late at most");
    let text = metrics.encode();
    assert!(text.contains(r#"gapura_key_set_fetches_total{jwt="jwt.users",result="success"} 2"#), "{text}");
    assert!(text.contains(r#"gapura_key_set_keys{jwt="jwt.users"} 5"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn only_one_task_fetches_a_set() {
    let (set, provider) = (set(), Provider::serving(SET));
    let _first = follow_with(&set, &provider);
    let _second = follow_with(&set, &provider);
    sleep(secs(200)).await;
    assert_eq!(provider.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_set_that_nobody_holds_is_fetched_no_more() {
    let (set, provider) = (set(), Provider::serving(SET));
    let _metrics = follow_with(&set, &provider);
    settle().await;
    drop(set);
    sleep(secs(3600)).await;
    assert_eq!(provider.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_stay_through_an_outage_and_return_soon_after_it() {
    let (set, provider) = (set(), Provider::serving(SET));
    let metrics = follow_with(&set, &provider);
    settle().await;
    provider.becomes(&Provider::down());
    sleep(secs(24 * 3600)).await;
    assert_eq!(set.missing(), None, "what was fetched stays");
    // At most once a minute, less a tenth; and not much more seldom.
    assert!((1300..=1620).contains(&provider.asked()), "{}", provider.asked());
    let text = metrics.encode();
    assert!(text.contains(r#"gapura_key_set_keys{jwt="jwt.users"} 5"#), "{text}");
    provider.becomes(&Provider::serving(SET));
    let before = provider.asked();
    sleep(secs(67)).await;
    assert!(provider.asked() > before);
    sleep(secs(200)).await;
    assert_eq!(provider.asked(), before + 1, "then the ordinary pace again");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_down_at_the_start_is_asked_again_at_once() {
    let (set, provider) = (set(), Provider::down());
    let metrics = follow_with(&set, &provider);
    settle().await;
    assert_eq!(set.missing().as_deref(), Some("jwt.users: no keys yet: connection refused"));
    provider.becomes(&Provider::serving(SET));
    sleep(secs(2)).await;
    assert_eq!((set.missing(), provider.asked()), (None, 2));
    let text = metrics.encode();
    assert!(text.contains(r#"gapura_key_set_fetches_total{jwt="jwt.users",result="failure"} 1"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_given_up_in_time() {
    let (set, provider) = (set(), Provider::new(|_| None));
    let _metrics = follow_with(&set, &provider);
    sleep(Duration::from_millis(4999)).await;
    assert!(set.missing().unwrap().ends_with("they are being fetched"));
    sleep(Duration::from_millis(2)).await;
    assert!(set.missing().unwrap().ends_with("the provider takes longer than 5s"));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_set_changes_nothing() {
    let (set, provider) = (set(), Provider::serving(SET));
    let metrics = follow_with(&set, &provider);
    settle().await;
    let bad = ["", "<html>", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, r#"{"keys":[7]}"#];
    for (failed, text) in (1..).zip(bad) {
        // Failed fetches are repeated with growing pauses; each text is met at least once.
        provider.becomes(&Provider::serving(text));
        let before = provider.asked();
        // Shorter than any pause: one fetch is seen, not two.
        while provider.asked() == before {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(set.missing(), None, "{text}");
        let counted = format!(r#"gapura_key_set_fetches_total{{jwt="jwt.users",result="failure"}} {failed}"#);
        assert!(metrics.encode().contains(&counted), "{text}: {}", metrics.encode());
    }
    assert!(metrics.encode().contains(r#"gapura_key_set_keys{jwt="jwt.users"} 5"#));
}

#[test]
fn one_odd_entry_does_not_lock_everybody_out() {
    let set = set();
    let odd = r#"{"kty":"oct","kid":"s","k":"AAAA"},{"kty":"RSA","kid":"rsa-1","n":"_w","e":"AQAB"},"#;
    let text = SET.replacen('[', &format!("[{odd}"), 1);
    let taken = set.replace(text.as_bytes()).unwrap();
    assert_eq!((taken.keys, taken.passed_over.len()), (5, 2), "{:?}", taken.passed_over);
    // The first of one name stands.
    let again = SET.replacen("rsa-2", "rsa-1", 1);
    let taken = set.replace(again.as_bytes()).unwrap();
    assert_eq!(taken.keys, 4);
    assert!(taken.passed_over[0].contains("the same `kid`"), "{:?}", taken.passed_over);
    let many = format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(64));
    assert_eq!(set.replace(many.as_bytes()), Err("the key set has 65 keys; at most 64 are read".into()));
}

async fn fetched(provider: &Provider, location: Location) -> Result<Bytes, String> {
    provider::fetch(provider, &source(location)).await
}

#[tokio::test]
async fn redirects_stay_on_the_host() {
    for (location, said) in [
        ("https://id.test/moved", Ok(())),
        ("https://ID.test:443/moved", Ok(())),
        ("/moved", Ok(())),
        ("https://evil.test/moved", Err("another host")),
        ("https://id.test:8443/moved", Err("another host")),
        ("https://id.test.evil.test/moved", Err("another host")),
        ("https://id.test@evil.test/moved", Err("no https address")),
        ("//evil.test/moved", Err("no https address")),
        ("http://id.test/moved", Err("no https address")),
        ("file:///etc/passwd", Err("no https address")),
        ("moved", Err("no https address")),
        ("", Err("no https address")),
        ("https://id.test/keys", Err("more than 3 times")),
    ] {
        let provider =
            Provider::new(move |uri| Some(Ok(if uri.ends_with("/moved") { page(SET) } else { redirect(location) })));
        let result = fetched(&provider, Location::Set("https://id.test/keys".into())).await;
        match said {
            Ok(()) => assert_eq!(result.unwrap(), SET, "{location}"),
            Err(said) => {
                let why = result.unwrap_err();
                assert!(why.contains(said), "{location}: {why}");
                assert!(provider.asked() <= 4, "{location}: asked {} times", provider.asked());
            }
        }
    }
    let nowhere = Provider::new(|_| Some(Ok(Page { status: StatusCode::FOUND, location: None, body: Bytes::new() })));
    assert!(fetched(&nowhere, Location::Set("https://id.test/keys".into())).await.unwrap_err().contains("nowhere"));
    for status in [201, 204, 304, 401, 404, 500, 503] {
        let status = StatusCode::from_u16(status).unwrap();
        let provider = Provider::new(move |_| Some(Ok(Page { status, ..page(SET) })));
        let why = fetched(&provider, Location::Set("https://id.test/keys".into())).await.unwrap_err();
        assert_eq!(why, format!("`https://id.test/keys` answers {}", status.as_u16()));
    }
}

#[tokio::test]
async fn an_issuer_names_its_key_set() {
    const ISSUER: &str = "https://id.test/realms/main";
    let by = |metadata: &'static str| {
        Provider::new(move |uri| match uri {
            "https://id.test/realms/main/.well-known/openid-configuration" => Some(Ok(page(metadata))),
            "https://keys.test/set" => Some(Ok(page(SET))),
            other => panic!("asked for {other}"),
        })
    };
    let good = r#"{"issuer":"https://id.test/realms/main","jwks_uri":"https://keys.test/set"}"#;
    assert_eq!(fetched(&by(good), Location::Issuer(ISSUER.into())).await.unwrap(), SET);
    // The slash belongs to the issuer, not to the address.
    let slash = r#"{"issuer":"https://id.test/realms/main/","jwks_uri":"https://keys.test/set"}"#;
    assert_eq!(fetched(&by(slash), Location::Issuer(format!("{ISSUER}/"))).await.unwrap(), SET);
    for (metadata, said) in [
        (slash, "another issuer"),
        (r#"{"issuer":"https://id.test","jwks_uri":"https://keys.test/set"}"#, "another issuer"),
        (r#"{"jwks_uri":"https://keys.test/set"}"#, "another issuer"),
        (r#"{"issuer":"https://id.test/realms/main"}"#, "no `jwks_uri`"),
        (r#"{"issuer":"https://id.test/realms/main","jwks_uri":7}"#, "no `jwks_uri`"),
        (r#"{"issuer":"https://id.test/realms/main","jwks_uri":"http://keys.test/set"}"#, "https only"),
        (r#"{"issuer":"https://id.test/realms/main","jwks_uri":"https://u:p@keys.test/set"}"#, "https only"),
        (r#"{"issuer":"a","issuer":"https://id.test/realms/main","jwks_uri":"https://keys.test/set"}"#, "twice"),
        ("<html>", "not readable"),
    ] {
        let why = fetched(&by(metadata), Location::Issuer(ISSUER.into())).await.unwrap_err();
        assert!(why.contains(said), "{metadata}: {why}");
    }
}

/// A route that verifies with a provider's keys.
fn route(key_sets: &KeySets) -> Authentication {
    let config = serde_json::json!({ "algorithms": ["RS256"], "jwks": "https://id.test/keys" });
    let config: model::Jwt = serde_json::from_value(config).unwrap();
    Authentication::new(&Place::root(), vec![Method::jwt("users", &config, key_sets).unwrap()]).unwrap()
}

fn ask(route: &Authentication, kid: &str) -> Result<(), Code> {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::RS256) };
    let claims = serde_json::json!({ "sub": "u1", "exp": NOW_MS / 1000 + 300 });
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_rsa_pem(RSA).unwrap()).unwrap();
    let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    route.authenticate(&headers, NOW_MS).map(drop).map_err(|refusal| refusal.code)
}

#[tokio::test(start_paused = true)]
async fn before_the_first_keys_no_token_is_called_bad() {
    let key_sets = KeySets::default();
    let route = route(&key_sets);
    assert_eq!(ask(&route, "rsa-1"), Err(Code::Overloaded));
    let set = Arc::clone(route.key_sets().next().unwrap());
    let _metrics = follow_with(&set, &Provider::serving(SET));
    settle().await;
    assert_eq!(ask(&route, "rsa-1"), Ok(()));
    assert_eq!(ask(&route, "rsa-2"), Err(Code::CredentialsInvalid), "signed with another key of the set");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_invented_keys_reaches_the_provider_once_in_ten_seconds() {
    let key_sets = KeySets::default();
    let route = route(&key_sets);
    let provider = Provider::serving(SET);
    let _metrics = follow_with(route.key_sets().next().unwrap(), &provider);
    settle().await;
    let mut times = Vec::new();
    let began = Instant::now();
    for n in 0..500 {
        assert_eq!(ask(&route, &format!("invented-{n}")), Err(Code::CredentialsInvalid));
        assert_eq!(ask(&route, "rsa-1"), Ok(()), "known keys keep working");
        sleep(Duration::from_millis(100)).await;
        times.push((began.elapsed().as_secs(), provider.asked()));
    }
    for (seconds, asked) in times {
        assert!(asked <= 1 + usize::try_from(seconds / 10 + 1).unwrap(), "{asked} fetches in {seconds} s");
    }
    assert_eq!(provider.asked(), 6, "at the start, then after 10, 20, 30, 40 and 50 s");
    provider.becomes(&Provider::down());
    sleep(secs(30)).await;
    assert_eq!(ask(&route, "rsa-1"), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_out_of_turn_and_an_old_one_goes() {
    let key_sets = KeySets::default();
    let route = route(&key_sets);
    let provider = Provider::serving(SET);
    let _metrics = follow_with(route.key_sets().next().unwrap(), &provider);
    settle().await;
    // The provider rotates: the same key under another name stands for a new one.
    let rotated: &'static str = Box::leak(SET.replace("rsa-1", "rsa-3").into_boxed_str());
    provider.becomes(&Provider::serving(rotated));
    assert_eq!(ask(&route, "rsa-3"), Err(Code::CredentialsInvalid));
    sleep(secs(11)).await;
    assert_eq!((ask(&route, "rsa-3"), ask(&route, "rsa-1")), (Ok(()), Err(Code::CredentialsInvalid)));
}

#[test]
fn a_reload_finds_the_keys_of_a_source_that_stays() {
    let key_sets = KeySets::default();
    let before = route(&key_sets);
    before.key_sets().next().unwrap().replace(SET.as_bytes()).unwrap();
    let after = route(&key_sets);
    drop(before);
    assert_eq!(ask(&after, "rsa-1"), Ok(()));
    drop(after);
    assert_eq!(ask(&route(&key_sets), "rsa-1"), Err(Code::Overloaded), "what nobody needed is gone");
    let one = key_sets.of(source(Location::Set("https://a.test/".into())));
    let ca = Some("ca.pem".into());
    let other = key_sets.of(KeySource { ca, ..source(Location::Set("https://a.test/".into())) });
    assert!(!Arc::ptr_eq(&one, &other), "other authorities, other trust");
}

#[test]
fn pauses_grow_and_differ() {
    assert_eq!((pause(0, 0.0), pause(0, 1.0)), (secs(270), secs(330)));
    let of = |failures| pause(failures, 0.5).as_secs_f64().round();
    assert_eq!([1, 2, 3, 6, 7, 8, u32::MAX].map(of), [1.0, 2.0, 4.0, 32.0, 60.0, 60.0, 60.0]);
}
