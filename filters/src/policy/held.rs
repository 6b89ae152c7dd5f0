//! Which tables of a configuration hold their keys on leases, and so which routes do.

use std::{collections::BTreeMap, sync::Arc};

use gapura_config::model::{self, Config};

use crate::{
    contract::{KeyReader, Lease},
    keyring::Keyring,
};

/// Leases by table: `jwt.users`, `encryption.payments`, `identity_assertion`.
#[derive(Default)]
pub(super) struct Held {
    needed: Tables,
    /// Of versions of keyrings that no route waits for: one that ends alone opens nothing, and the others go on.
    others: Tables,
}

type Tables = BTreeMap<String, Vec<Arc<dyn Lease>>>;

impl Held {
    pub(super) fn note(&mut self, table: &str, read: &KeyReader) {
        self.add(table, &read.leases());
    }

    pub(super) fn add(&mut self, table: &str, leases: &[Arc<dyn Lease>]) {
        self.needed.entry(table.to_owned()).or_default().extend_from_slice(leases);
    }

    pub(super) fn ring(&mut self, name: &str, ring: &Keyring) {
        let active = ring.active().map(|version| version.kid());
        for version in ring.versions() {
            let tables = if Some(version.kid()) == active { &mut self.needed } else { &mut self.others };
            tables.entry(format!("keyrings.{name}")).or_default().extend_from_slice(version.leases());
        }
    }

    /// What a route needs: the tables that it names, and those that they name.
    pub(super) fn of(&self, route: &model::Route, config: &Config) -> Vec<Arc<dyn Lease>> {
        tables(route, config).iter().filter_map(|table| self.needed.get(table)).flatten().cloned().collect()
    }

    /// All that any route uses, each once.
    pub(super) fn all(&self, config: &Config) -> Box<[Arc<dyn Lease>]> {
        let named = |table: &String| config.routes.iter().any(|route| tables(route, config).contains(table));
        let used = self.needed.iter().chain(&self.others).filter(|(table, _)| named(table));
        used.flat_map(|(_, leases)| leases).cloned().collect()
    }
}

fn tables(route: &model::Route, config: &Config) -> Vec<String> {
    let mut tables: Vec<String> = route.auth.clone();
    // Only tokens can be bound to a key that proofs are made with.
    if route.auth.iter().any(|name| name.starts_with("jwt.")) {
        tables.push("dpop".into());
    }
    let methods = route.auth.iter().filter_map(|name| config.jwt.get(name.strip_prefix("jwt.")?));
    tables.extend(methods.filter_map(|jwt| Some(format!("keyrings.{}", jwt.decryption.as_ref()?.keyring))));
    if let Some(name) = &route.encryption {
        tables.push(format!("encryption.{name}"));
        let entry = config.encryption.get(name);
        let rings = entry.into_iter().flat_map(|entry| entry.keyrings.iter().chain(&entry.master_keys));
        tables.extend(rings.map(|ring| format!("keyrings.{ring}")));
    }
    tables.extend(route.issues.iter().chain(&route.requires).map(|name| format!("operation_tokens.{name}")));
    let by_upstream = || config.upstreams.get(&route.upstream).is_some_and(|upstream| upstream.identity_assertion);
    if route.identity_assertion.unwrap_or_else(by_upstream) {
        tables.push("identity_assertion".into());
    }
    tables
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Never(&'static str);

    impl Lease for Never {
        fn is_over(&self) -> bool {
            false
        }
        fn name(&self) -> &str {
            self.0
        }
    }

    fn names(leases: &[Arc<dyn Lease>]) -> Vec<&str> {
        leases.iter().map(|lease| lease.name()).collect()
    }

    #[test]
    fn a_route_needs_no_more_than_its_own_tables_do() {
        let mut held = Held::default();
        for table in ["api_keys.p", "dpop", "jwt.spare", "jwt.u", "operation_tokens.a", "operation_tokens.b"] {
            held.add(table, &[Arc::new(Never(table)) as Arc<dyn Lease>]);
        }
        let config: Config = serde_json::from_value(json!({
            "server": { "http": ["127.0.0.1:0"] },
            "upstreams": { "u": { "servers": ["127.0.0.1:1"] } },
            "routes": [
                { "name": "keyed", "path": "/k", "upstream": "u", "auth": ["api_keys.p"] },
                { "name": "begun", "path": "/b", "upstream": "u", "auth": ["jwt.u"], "issues": "a" },
                { "name": "open", "path": "/o", "upstream": "u", "auth": [] },
            ],
        }))
        .unwrap();
        let of = |index: usize| held.of(&config.routes[index], &config);
        assert_eq!(names(&of(0)), ["api_keys.p"], "a key of partners is bound to no other");
        assert_eq!(names(&of(1)), ["jwt.u", "dpop", "operation_tokens.a"]);
        assert!(of(2).is_empty());
        assert_eq!(names(&held.all(&config)), ["api_keys.p", "dpop", "jwt.u", "operation_tokens.a"]);
    }
}
