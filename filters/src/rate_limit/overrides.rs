//! Limits that the record of an API key has in place of a rule's own: `limits = { api = 5000 }`.
//!
//! Window, algorithm and counters stay the rule's, so that a reload which changes such a limit forgets no count. A rule that counts
//! by API key stands behind authentication, so the caller is known whenever it is asked, and stays the same until the refund.

use std::collections::HashMap;

use gapura_config::model::{ApiKeys, LimitKey, Named, RateLimit};
use http::HeaderValue;

use super::{algorithm::Quota, grown::Grown, rule::policy_field};
use crate::contract::Principal;

/// What a rule asks of one caller.
pub(super) struct Terms {
    pub(super) quota: Quota,
    /// `"general";q=100;w=60`
    pub(super) policy: HeaderValue,
}

#[derive(Default)]
pub(super) struct Overrides {
    /// Of keys in the configuration: by method (`api_keys.NAME`), then by the key's id.
    written: HashMap<String, HashMap<String, Terms>>,
    /// Of keys in databases, which change under a policy. None where none can have one.
    held: Option<Grown>,
}

impl Terms {
    /// Or the key of the rule's table that is at fault, and what to write instead.
    pub(super) fn new(name: &str, rule: &RateLimit) -> Result<Self, (&'static str, String)> {
        let quota = Quota::new(rule)?;
        let policy = policy_field(name, &quota).ok_or(("limit", "this name fits no header".to_owned()))?;
        Ok(Self { quota, policy })
    }
}

impl Overrides {
    /// A fault is the path of the key that is wrong, and what to write instead.
    pub(super) fn build(
        name: &str,
        rule: &RateLimit,
        api_keys: &Named<ApiKeys>,
    ) -> Result<Self, Vec<(String, String)>> {
        let (mut methods, mut faults) = (HashMap::<String, HashMap<String, Terms>>::new(), Vec::new());
        for (method, keys) in api_keys {
            for key in &keys.keys {
                let Some(&limit) = key.limits.get(name) else { continue };
                match Terms::new(name, &RateLimit { limit, ..rule.clone() }) {
                    Ok(terms) => {
                        methods.entry(format!("api_keys.{method}")).or_default().insert(key.id.clone(), terms);
                    }
                    Err((_, fault)) => {
                        faults.push((format!("api_keys.{method}.keys"), format!("key `{}`: {fault}", key.id)));
                    }
                }
            }
        }
        let held = rule.by.keys().contains(&LimitKey::ApiKey) && api_keys.values().any(|keys| keys.database.is_some());
        let held = held.then(|| Grown::new(name, rule));
        if faults.is_empty() { Ok(Self { written: methods, held }) } else { Err(faults) }
    }

    /// `widen` is told of a quota before anything is counted by it.
    pub(super) fn of(&self, principal: Option<&Principal>, widen: impl FnOnce(&Quota)) -> Option<&Terms> {
        // Most rules have none.
        if self.written.is_empty() && self.held.is_none() {
            return None;
        }
        let principal = principal?;
        let written = || self.written.get(&*principal.method)?.get(principal.api_key.as_deref()?);
        written().or_else(|| self.held.as_ref()?.of(&principal.limits, widen))
    }

    pub(super) fn quotas(&self) -> impl Iterator<Item = &Quota> {
        self.written.values().flat_map(HashMap::values).map(|terms| &terms.quota)
    }

    /// One line for each key, up to a few.
    pub(super) fn explain(&self) -> Vec<String> {
        let mut all: Vec<_> =
            self.written.iter().flat_map(|(method, keys)| keys.iter().map(move |key| (method, key))).collect();
        all.sort_by_key(|(method, (id, _))| (*method, *id));
        let told = all.iter().take(TOLD);
        let mut lines: Vec<String> = told
            .map(|(method, (id, terms))| format!("  key {id} of {method}: {} instead", terms.quota.limit))
            .collect();
        if all.len() > TOLD {
            lines.push(format!("  and {} more keys with limits of their own", all.len() - TOLD));
        }
        if self.held.is_some() {
            lines.push("  keys of a database: what `gapura keys list` shows in `limits`, instead".to_owned());
        }
        lines
    }
}

const TOLD: usize = 8;
