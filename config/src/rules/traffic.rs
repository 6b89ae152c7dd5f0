//! Rate limits and body encryption.

use std::time::Duration;

use super::{Rules, at};
use crate::{
    fault::{Fault, Place},
    model::{Encryption, KeyDerivation, LimitAlgorithm, LimitBy, LimitCost, LimitKey, RateLimit, Replay, ToldCost},
    units::{Period, PeriodOrOff, Size},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    rules.names("rate_limits", &config.rate_limits);
    rules.names("encryption", &config.encryption);
    for (name, limit) in &config.rate_limits {
        rate_limit(rules, name, limit);
    }
    for (name, encryption) in &config.encryption {
        freshness(rules, name, encryption);
        fields(rules, name, encryption);
    }
}

fn rate_limit(rules: &mut Rules<'_>, name: &str, limit: &RateLimit) {
    let table = at(&["rate_limits", name]);
    // Below, slices are too short for the clock; above, counters outlive every deployment.
    let windows = Duration::from_millis(100)..=Duration::from_secs(31 * 86_400);
    if !windows.contains(&limit.window.get()) {
        let fault = Fault::at(table.key("window"), format!("a window of `{}` is out of range", limit.window));
        rules.add(fault.help(format!("write \"{}\" to \"{}\"", Period(*windows.start()), Period(*windows.end()))));
    }
    // Shorter than a second says nothing that `Retry-After` could; longer is a lock-out, which should end by somebody's will.
    let penalties = Duration::from_secs(1)..=Duration::from_secs(3600);
    if let Some(penalty) = limit.penalty.filter(|penalty| !penalties.contains(&penalty.get())) {
        let fault = Fault::at(table.key("penalty"), format!("a penalty of `{penalty}` is out of range"));
        rules.add(fault.help(format!("write \"{}\" to \"{}\"", Period(*penalties.start()), Period(*penalties.end()))));
    }
    combination(rules, &table, limit);
    headers(rules, &table, limit);
    rules.repeated(&table.key("methods"), &limit.methods);
    if !rules.written(&table.key("algorithm")) {
        return;
    }
    cost(rules, &table, limit);
    if limit.burst.is_some() && limit.algorithm != LimitAlgorithm::Gcra {
        let fault =
            Fault::at(table.key("burst"), "`burst` belongs to `algorithm = \"gcra\"`; the others never exceed `limit`");
        rules.add(fault.on_key().help("remove it, or write `algorithm = \"gcra\"`"));
    }
    if limit.algorithm == LimitAlgorithm::SlidingLog && limit.limit > RateLimit::MAX_LOG {
        let message =
            format!("a sliding log of {} requests takes {} KiB for each key", limit.limit, limit.limit * 4 / 1024);
        let fault = Fault::at(table.key("limit"), message);
        rules.add(fault.help(format!("write at most {}, or `algorithm = \"sliding_window\"`", RateLimit::MAX_LOG)));
    }
}

/// A request is charged whole or not at all.
fn cost(rules: &mut Rules<'_>, table: &Place, limit: &RateLimit) {
    if !rules.sound_keys(table, &["limit", "burst", "cost"]) {
        return;
    }
    let (cost, most) = (limit.cost.most(), limit.at_once());
    let (place, may) = match &limit.cost {
        LimitCost::Fixed(_) => (table.key("cost"), "costs"),
        LimitCost::Told(_) => (table.key("cost").key("max"), "may cost"),
    };
    if cost > most {
        let bound = if most == limit.limit { "limit" } else { "burst" };
        let fault = Fault::at(place.clone(), format!("a request that {may} {cost} never passes"));
        rules.add(fault.help(format!("write at most the `{bound}` of {most}, or raise that")));
    }
    if let LimitCost::Told(ToldCost { default, max, .. }) = limit.cost
        && default > max
    {
        let fault = Fault::at(place, format!("a response that says nothing costs {default}, above the most of {max}"));
        rules.add(fault.help(format!("write a `max` of at least {default}, or a smaller `default`")));
    }
}

/// A header that tells a cost leaves the response, and one to count by has to say something of who sends it.
fn headers(rules: &mut Rules<'_>, table: &Place, limit: &RateLimit) {
    if let LimitCost::Told(ToldCost { header, .. }) = &limit.cost
        && is_of_the_response(&header.to_ascii_lowercase())
    {
        let message = format!("`{header}` would be removed from every response, and clients or the gateway need it");
        let fault = Fault::at(table.key("cost").key("header"), message);
        rules.add(fault.help("have the upstream tell the cost in a header made for it: \"X-Cost\""));
    }
    let by = table.key("by");
    for (index, key) in limit.by.keys().iter().enumerate() {
        let LimitKey::Header(name) = key else { continue };
        if HOP_BY_HOP.contains(&name.as_str()) || name == "content-length" {
            let place = if matches!(limit.by, LimitBy::One(_)) { by.clone() } else { by.index(index) };
            let fault = Fault::at(place, format!("`{name}` says how one message is sent, not who sends it"));
            rules.add(fault.help("write a header that names the caller, \"header:X-Tenant\", or \"client_ip\""));
        }
    }
}

/// Of one connection (RFC 9110, section 7.6.1), and the framing of a message.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Frames the response, says what its body is and who may keep it, or is written by the gateway.
pub(super) fn is_of_the_response(header: &str) -> bool {
    const MEANT: [&str; 18] = [
        "accept-ranges",
        "age",
        "allow",
        "authorization",
        "cache-control",
        "date",
        "etag",
        "expires",
        "last-modified",
        "location",
        "referrer-policy",
        "retry-after",
        "set-cookie",
        "strict-transport-security",
        "traceparent",
        "vary",
        "www-authenticate",
        "x-request-id",
    ];
    const FAMILIES: [&str; 6] =
        ["access-control-", "content-", "ratelimit", "sec-websocket-", "x-content-type-", "x-frame-"];
    HOP_BY_HOP.contains(&header) || MEANT.contains(&header) || FAMILIES.iter().any(|family| header.starts_with(family))
}

/// Each part of a key is read, and hashed, for each request.
const MAX_KEYS: usize = 4;

fn combination(rules: &mut Rules<'_>, table: &Place, limit: &RateLimit) {
    let LimitBy::Each(keys) = &limit.by else { return };
    let list = table.key("by");
    rules.repeated(&list, keys);
    if keys.len() > MAX_KEYS {
        let fault = Fault::at(list.clone(), format!("a key of {} parts", keys.len()));
        rules.add(fault.help(format!("write at most {MAX_KEYS}")));
    }
    let global = keys.iter().position(|key| *key == LimitKey::Global);
    if let Some(index) = global.filter(|_| keys.len() > 1) {
        let fault = Fault::at(list.index(index), "`global` is the same for all: beside other parts it says nothing");
        rules.add(fault.help("remove it, or write by = \"global\""));
    }
}

fn freshness(rules: &mut Rules<'_>, name: &str, encryption: &Encryption) {
    let table = at(&["encryption", name]);
    // Beside a profile that cannot do without them, each is a fault already.
    let strong = encryption.profile.listed().iter().any(|profile| profile.is_strong());
    if encryption.max_age == PeriodOrOff::Off && !strong {
        let also = match encryption.key_derivation {
            KeyDerivation::User => "",
            KeyDerivation::UserTimestamp => ", and whoever learns one of its keys can use that for ever",
        };
        let fault = Fault::warning(table.key("max_age"), format!("an envelope of any age is accepted{also}"));
        rules.add(fault.help("only for migrations: write \"5m\" once clients send the time"));
    }
    if encryption.replay == Replay::Off && !strong {
        let fault = Fault::warning(table.key("replay"), "an envelope that was overheard can be sent again");
        rules.add(fault.help("only for migrations: write \"reject\" once clients seal each request anew"));
    }
    if encryption.max_response > LARGE_BODY {
        let message = format!("each response is held whole in memory, up to `{}`", encryption.max_response);
        rules.add(Fault::warning(table.key("max_response"), message).help("the default is \"8MiB\""));
    }
}

/// An encrypted body is read whole before it is opened, and sealed whole.
pub(super) const LARGE_BODY: Size = Size::mib(64);

fn fields(rules: &mut Rules<'_>, name: &str, encryption: &Encryption) {
    let table = at(&["encryption", name, "fields"]);
    let fields = &encryption.fields;
    let members = [
        ("data", &fields.data),
        ("key_hash", &fields.key_hash),
        ("timestamp", &fields.timestamp),
        ("user_id", &fields.user_id),
    ];
    for (i, (key, member)) in members.iter().enumerate() {
        rules.not_empty(table.key(key), member);
        let earlier = members[..i].iter().find(|(_, other)| other == member && !member.is_empty());
        if let Some((other, _)) = earlier
            && rules.sound(&table)
        {
            // The one that stands in the file, where the other is a default.
            let place = [*key, *other].map(|key| table.key(key)).into_iter().find(|place| rules.source.has(place));
            let message = format!("`{other}` and `{key}` are both the member {member:?}");
            rules.add(Fault::at(place.unwrap_or(table.clone()), message).help("give each a name of its own"));
        }
    }
}
