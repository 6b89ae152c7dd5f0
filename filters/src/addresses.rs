//! From where a route may be called: `allow` and `deny`. The cheapest check there is, so it comes first.

use std::{
    future::{Future, ready},
    net::IpAddr,
};

use gapura_config::model;
use http::request;
use prometheus::IntCounter;

use crate::{
    contract::{Code, Exchange, Filter, Refusal, Stage},
    metrics::Metrics,
    networks::Networks,
};

/// The addresses of one route.
pub struct Addresses {
    /// None: everyone.
    allow: Option<Networks>,
    deny: Option<Networks>,
    not_allowed: IntCounter,
    denied: IntCounter,
}

impl Addresses {
    /// `None` where the route takes everyone.
    pub fn new(route: &model::Route, metrics: &Metrics) -> Option<Self> {
        let set = |list: &Option<Vec<_>>| list.as_deref().map(Networks::new);
        let (allow, deny) = (set(&route.allow), set(&route.deny));
        if allow.is_none() && deny.is_none() {
            return None;
        }
        let count = |rule| metrics.address_refusals.with_label_values(&[route.name.as_str(), rule]);
        Some(Self { allow, deny, not_allowed: count("allow"), denied: count("deny") })
    }

    /// `deny` wins: an exception is written as one.
    pub fn admit(&self, address: IpAddr) -> Result<(), Refusal> {
        if self.deny.as_ref().is_some_and(|deny| deny.contains(address)) {
            self.denied.inc();
            return Err(refuse("the address is in `deny`"));
        }
        if self.allow.as_ref().is_some_and(|allow| !allow.contains(address)) {
            self.not_allowed.inc();
            return Err(refuse("the address is not in `allow`"));
        }
        Ok(())
    }
}

/// The client does not learn which list it was.
fn refuse(reason: &'static str) -> Refusal {
    Refusal::new(Code::PermissionDenied, "This may not be called from this address.").reason(reason)
}

impl Filter for Addresses {
    fn stage(&self) -> Stage {
        Stage::Addresses
    }

    fn explain(&self) -> Vec<String> {
        let line = |verb: &str, list: &Option<Networks>| list.as_ref().map(|list| format!("{verb} {}", list.explain()));
        [line("never", &self.deny), line("only", &self.allow)].into_iter().flatten().collect()
    }

    fn on_request(
        &self,
        _head: &request::Parts,
        exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(self.admit(exchange.client_ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(lists: serde_json::Value) -> Option<Addresses> {
        let mut route = serde_json::json!({ "name": "r", "path": "/r", "upstream": "u" });
        for (key, list) in lists.as_object().unwrap() {
            route[key] = list.clone();
        }
        Addresses::new(&serde_json::from_value(route).unwrap(), &Metrics::new().unwrap())
    }

    #[test]
    fn deny_wins_whatever_is_longer() {
        assert!(route(serde_json::json!({})).is_none());
        let lists =
            serde_json::json!({ "allow": ["10.0.0.0/8", "192.0.2.7/32"], "deny": ["10.1.0.0/16", "192.0.2.0/24"] });
        let both = route(lists).unwrap();
        for (address, passes) in [
            ("10.2.0.1", true),
            ("10.1.0.1", false),
            ("192.0.2.7", false),
            ("198.51.100.1", false),
            ("::ffff:10.2.0.1", true),
            ("::ffff:10.1.0.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(both.admit(address.parse().unwrap()).is_ok(), passes, "{address}");
        }
        assert_eq!((both.denied.get(), both.not_allowed.get()), (3, 2));
        let only_deny = route(serde_json::json!({ "deny": ["10.0.0.0/8"] })).unwrap();
        assert!(only_deny.admit("2001:db8::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_client_does_not_learn_the_list() {
        let denied = route(serde_json::json!({ "deny": ["10.0.0.0/8"] })).unwrap();
        let missing = route(serde_json::json!({ "allow": ["192.0.2.0/24"] })).unwrap();
        let [one, other] = [denied, missing].map(|route| route.admit("10.0.0.1".parse().unwrap()).unwrap_err());
        assert_eq!((one.code, &one.detail), (other.code, &other.detail));
        assert_ne!(one.reason, other.reason);
    }
}
