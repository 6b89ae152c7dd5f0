//! Where counters are kept, and how Redis is reached.

use std::time::Duration;

use super::{Rules, at};
use crate::{
    fault::Fault,
    model::{Redis, RedisMode, State, Store},
};

pub(super) fn check(rules: &mut Rules<'_>, state: &State) {
    let table = at(&["state"]);
    if let Some(redis) = &state.redis {
        servers(rules, redis);
        mode(rules, redis);
    }
    if !rules.sound_keys(&table, &["store", "redis"]) {
        return;
    }
    if state.store == Store::Redis && state.snapshot.is_some() {
        let fault =
            Fault::at(table.key("snapshot"), "`snapshot` is of the memory store: what Redis counts outlives a restart");
        rules.add(fault.on_key().help("remove it, or write `store = \"memory\"`"));
    }
    match (&state.redis, state.store) {
        (None, Store::Redis) => {
            let fault = Fault::at(table.key("store"), "the store is Redis, and no `redis` says where");
            rules.add(fault.help("add `redis = { url = \"env:REDIS_URL\" }`"));
        }
        (Some(_), Store::Memory) => {
            let fault =
                Fault::warning(table.key("redis"), "Redis is set up but not used: the store is memory").on_key();
            rules.add(fault.help("add `store = \"redis\"`"));
        }
        (Some(redis), Store::Redis) if redis.timeout.get() > Duration::from_secs(1) => {
            let place = table.key("redis").key("timeout");
            let fault =
                Fault::warning(place, format!("during an outage of Redis a request may wait `{}`", redis.timeout));
            rules.add(fault.help("write some milliseconds: \"20ms\""));
        }
        _ => {}
    }
    let outages = rules.config.rate_limits.iter().filter(|(_, limit)| limit.on_outage.is_some());
    for (name, _) in outages.filter(|_| state.store == Store::Memory) {
        let place = at(&["rate_limits", name]).key("on_outage");
        let fault = Fault::warning(place, "only counters in Redis have outages, and the store is memory").on_key();
        rules.add(fault.help("remove it, or write `store = \"redis\"` in `[state]`"));
    }
}

fn servers(rules: &mut Rules<'_>, redis: &Redis) {
    let table = at(&["state", "redis"]);
    let Some(sentinel) = &redis.sentinel else { return };
    if redis.cluster && rules.sound_keys(&table, &["cluster", "sentinel"]) {
        let fault = Fault::at(table.key("cluster"), "a Cluster looks after itself: no Sentinel watches it");
        rules.add(fault.help("remove `sentinel`, or `cluster`"));
    }
    let place = table.key("sentinel");
    rules.not_empty(place.key("master"), &sentinel.master);
    if sentinel.username.is_some() && sentinel.password.is_none() && rules.sound(&place.key("password")) {
        let fault = Fault::at(place.key("username"), "a user without a password");
        rules.add(fault.help("add `password = \"env:REDIS_PASSWORD\"`"));
    }
}

fn mode(rules: &mut Rules<'_>, redis: &Redis) {
    let table = at(&["state", "redis"]);
    if !rules.sound_keys(&table, &["mode", "instances"]) {
        return;
    }
    match (redis.mode, redis.instances) {
        (RedisMode::Adaptive, None) => {
            let fault = Fault::at(table.key("mode"), "what `adaptive` may admit too much follows from how many count");
            rules.add(fault.help("add `instances = 3`: the most that ever run at once"));
        }
        (RedisMode::Sync, Some(_)) => {
            let fault = Fault::warning(table.key("instances"), "only `mode = \"adaptive\"` asks how many there are");
            rules.add(fault.help("remove it, or write `mode = \"adaptive\"`"));
        }
        _ => {}
    }
}
