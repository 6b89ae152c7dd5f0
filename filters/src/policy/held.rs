//! Which tables of a configuration hold their keys on leases, and so which routes do.

use std::{collections::BTreeMap, sync::Arc};

use gapura_config::model::{self, Config};

use crate::contract::{KeyReader, Lease};

/// Leases by table: `jwt.users`, `encryption.payments`, `identity_assertion`.
#[derive(Default)]
pub(super) struct Held(BTreeMap<String, Vec<Arc<dyn Lease>>>);

impl Held {
    pub(super) fn note(&mut self, table: &str, read: &KeyReader) {
        self.add(table, &read.leases());
    }

    pub(super) fn add(&mut self, table: &str, leases: &[Arc<dyn Lease>]) {
        if !leases.is_empty() {
            self.0.entry(table.to_owned()).or_default().extend_from_slice(leases);
        }
    }

    pub(super) fn all(&self) -> Box<[Arc<dyn Lease>]> {
        self.0.values().flatten().cloned().collect()
    }

    /// What a route needs: the tables that it names, and those that they name.
    pub(super) fn of(&self, route: &model::Route, config: &Config) -> Vec<Arc<dyn Lease>> {
        let mut tables: Vec<String> = route.auth.clone();
        if !route.auth.is_empty() {
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
        if route.issues.is_some() || route.requires.is_some() {
            tables.push("operation_tokens".into());
        }
        let by_upstream = || config.upstreams.get(&route.upstream).is_some_and(|upstream| upstream.identity_assertion);
        if route.identity_assertion.unwrap_or_else(by_upstream) {
            tables.push("identity_assertion".into());
        }
        tables.iter().filter_map(|table| self.0.get(table)).flatten().cloned().collect()
    }
}
