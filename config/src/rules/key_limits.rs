//! Limits in the records of API keys: of which rule they are, and whether that can take them.

use super::{Rules, at, routes};
use crate::{
    fault::{Fault, Place},
    model::{LimitKey, RateLimit},
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
    if let Err((message, help)) = rule.takes_of_a_key(name, limit) {
        // Where the rule cannot have one at all, it is the key that is wrong.
        let fault = Fault::at(place, message).help(help);
        let never = !rule.by.keys().contains(&LimitKey::ApiKey);
        rules.add(if never { fault.on_key() } else { fault });
    }
}
