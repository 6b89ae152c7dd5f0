//! Keys that a backend issued: how they are found, what is sent where, and for how long an answer counts.

use std::time::Duration;

use super::{Rules, at};
use crate::{
    fault::{Fault, Place},
    model::{ApiKeys, FindBy, Hashed, KeyHash, KeyIntrospection, KeyLookup},
    units::Period,
};

pub(super) fn check(rules: &mut Rules<'_>, name: &str, method: &ApiKeys) {
    let table = at(&["api_keys", name]);
    salt(rules, &table, method);
    match (&method.lookup, &method.introspection) {
        (Some(_), Some(_)) => {
            let fault = Fault::at(table.key("introspection"), "`lookup` and `introspection` both say whose a key is");
            rules.add(fault.on_key().help("keep one of the two; a route may name two tables"));
        }
        (None, None) => return,
        _ => {}
    }
    if let Some(lookup) = &method.lookup {
        query(rules, &table.key("lookup"), lookup);
        hash(rules, &table.key("lookup"), lookup);
        within(rules, table.key("lookup").key("timeout"), &lookup.timeout, (MS, 30_000 * MS));
    }
    if let Some(introspection) = &method.introspection {
        endpoint(rules, &table.key("introspection"), introspection);
        within(rules, table.key("introspection").key("timeout"), &introspection.timeout, (MS, 30_000 * MS));
    }
    let (cache, at) = (&method.cache, table.key("cache"));
    within(rules, at.key("ttl"), &cache.ttl, (1000 * MS, 3_600_000 * MS));
    within(rules, at.key("negative_ttl"), &cache.negative_ttl, (100 * MS, 3_600_000 * MS));
    within(rules, at.key("stale"), &cache.stale, (MS, 86_400_000 * MS));
}

const MS: Duration = Duration::from_millis(1);

fn within(rules: &mut Rules<'_>, place: Place, period: &Period, (from, to): (Duration, Duration)) {
    if !(from..=to).contains(&period.get()) {
        let key = place.to_string().rsplit('.').next().unwrap_or_default().to_owned();
        let fault = Fault::at(place, format!("`{key}` {period} is out of range"));
        rules.add(fault.help(format!("write \"{}\" to \"{}\"", Period(from), Period(to))));
    }
}

fn salt(rules: &mut Rules<'_>, table: &Place, method: &ApiKeys) {
    let hashes = !method.keys.is_empty() || method.database.is_some();
    if method.salt.is_none() && hashes && rules.sound_keys(table, &["salt", "keys", "database"]) {
        let fault = Fault::at(table.clone(), "the keys of this table are hashed with a salt, and there is none");
        rules.add(fault.on_key().help("add `salt = \"env:NAME\"`; `openssl rand -hex 32` makes one"));
    }
}

fn query(rules: &mut Rules<'_>, table: &Place, lookup: &KeyLookup) {
    let place = table.key("query");
    const HELP: &str = "write one as \"SELECT id, user_id FROM api_keys WHERE key_hash = $1\"";
    let text = lookup.query.trim();
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_uppercase();
    let wrong = if !["SELECT", "WITH"].contains(&word.as_str()) {
        "a key is looked up by a SELECT"
    } else if text.contains(';') {
        "a query is one statement, without `;`"
    } else if !text.contains("$1") {
        "`$1` is missing: where the key goes"
    } else {
        return;
    };
    rules.add(Fault::at(place, wrong).help(HELP));
}

fn hash(rules: &mut Rules<'_>, table: &Place, lookup: &KeyLookup) {
    if !rules.sound_keys(table, &["hash", "salt", "find_by", "hashed"]) {
        return;
    }
    let KeyLookup { hash, find_by, hashed, salt, .. } = lookup;
    if *find_by == FindBy::Hash {
        if hash.is_salted() && salt.is_none() {
            let message = format!("by `{hash}` with a salt in its row no key can be found: the row is not known yet");
            let help = "write `salt = \"env:NAME\"` where one salt is for all, or `find_by = \"prefix:8\"`";
            rules.add(Fault::at(table.key("hash"), message).help(help));
        }
        if *hashed == Hashed::Rest {
            let fault = Fault::at(table.key("hashed"), "a key that is found by its hash has no other part");
            rules.add(fault.help("write `find_by = \"prefix:8\"` or `find_by = \"before:.\"`, or remove this"));
        }
    }
    if !hash.is_salted() && salt.is_some() {
        let fault = Fault::at(table.key("salt"), format!("`{hash}` has no salt")).on_key();
        rules.add(
            fault.help("remove it, or write `hash = \"sha256_salt_key\"`, \"sha256_key_salt\" or \"hmac_sha256\""),
        );
    }
    if *hash == KeyHash::Plain {
        let fault =
            Fault::warning(table.key("hash"), "the backend keeps keys as they are: whoever reads its table can call");
        rules.add(fault.help("let it keep hashes, and write `hash = \"sha256\"`"));
    }
}

fn endpoint(rules: &mut Rules<'_>, table: &Place, introspection: &KeyIntrospection) {
    let KeyIntrospection { url, ca, client_id, client_secret, bearer, claims, .. } = introspection;
    if !rules.sound_keys(table, &["url", "ca", "client_id", "client_secret", "bearer"]) {
        return;
    }
    if ca.is_some() && url.starts_with("http://") {
        let fault = Fault::at(table.key("ca"), "`ca` belongs to TLS, and this endpoint is reached without it");
        rules.add(fault.on_key().help("remove it, or write an https address in `url`"));
    }
    let half = match (client_id, client_secret) {
        (Some(_), None) => Some(("client_id", "client_secret")),
        (None, Some(_)) => Some(("client_secret", "client_id")),
        _ => None,
    };
    if let Some((there, missing)) = half {
        let fault = Fault::at(table.key(there), format!("`{there}` is half a login")).on_key();
        rules.add(fault.help(format!("add `{missing}`")));
    }
    if client_id.is_some() && bearer.is_some() {
        let fault = Fault::at(table.key("bearer"), "`client_id` and `bearer` are two logins").on_key();
        rules.add(fault.help("keep one of the two"));
    }
    rules.not_empty(table.key("client_id"), client_id.as_deref().unwrap_or("-"));
    let paths = [
        ("id", &claims.id),
        ("user_id", &claims.user_id),
        ("email", &claims.email),
        ("roles", &claims.roles),
        ("permissions", &claims.permissions),
    ];
    for (key, path) in paths {
        rules.not_empty(table.key("claims").key(key), path);
    }
}
