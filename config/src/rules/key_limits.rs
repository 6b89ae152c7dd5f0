//! Limits in the records of API keys: of which rule they are, and whether that can take them.

use super::{Rules, at, routes};
use crate::{
    fault::{Fault, Place},
    model::{LimitAlgorithm, LimitKey, RateLimit},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, method) in &config.api_keys {
        let keys = at(&["api_keys", name, "keys"]);
        for (i, key) in method.keys.iter().enumerate() {
            let table = keys.index(i).key("limits");
            for (name, limit) in &key.limits {
                match config.rate_limits.get(name) {
                    Some(rule) => limit_of(rules, table.key(name), (name, rule), *limit),
                    None => routes::refer(rules, table.key(name), "rate_limits", name, config.rate_limits.keys()),
                }
            }
        }
    }
}

fn limit_of(rules: &mut Rules<'_>, place: Place, (name, rule): (&str, &RateLimit), limit: u64) {
    let table = at(&["rate_limits", name]);
    if !rules.sound_keys(&table, &["by", "algorithm", "cost", "burst"]) {
        return;
    }
    if !rule.by.keys().contains(&LimitKey::ApiKey) {
        let message = format!("`{name}` does not count by API key: no limit of it can be of one key");
        let help = format!("write `by = \"api_key\"` in `[rate_limits.{name}]`, or remove this");
        rules.add(Fault::at(place, message).on_key().help(help));
        return;
    }
    if rule.algorithm == LimitAlgorithm::SlidingLog && limit > RateLimit::MAX_LOG {
        let message = format!("a sliding log of {limit} requests takes {} KiB for each key", limit * 4 / 1024);
        rules.add(Fault::at(place, message).help(format!("write at most {}", RateLimit::MAX_LOG)));
        return;
    }
    let most = RateLimit { limit, ..rule.clone() }.at_once();
    if rule.cost.most() > most {
        let message = format!("a request may cost {} and would never pass", rule.cost.most());
        rules.add(Fault::at(place, message).help("write at least that, or lower the `cost` of the rule"));
    }
}
