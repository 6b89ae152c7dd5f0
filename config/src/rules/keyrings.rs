//! Keyrings, and which of them an encryption takes.

use std::{collections::HashMap, time::Duration};

use super::{Rules, at, routes::refer};
use crate::{
    fault::{Fault, Place},
    model::{Config, Encryption, KeyKind, KeyState, Keyring, Profile},
    units::{Period, PeriodOrOff},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, ring) in &config.keyrings {
        let place = at(&["keyrings", name]);
        if !is_id(name) {
            let fault = Fault::at(place.clone(), format!("{name:?} cannot be the name of a keyring: {ID_RULE}"));
            rules.add(fault.on_key().help(ID_HELP));
        }
        versions(rules, &place.key("versions"), name, ring);
    }
    for (name, entry) in &config.encryption {
        let table = at(&["encryption", name]);
        profiles(rules, &table, entry);
        partner(rules, &table, entry);
        rings(rules, &table, entry);
        strength(rules, &table, entry);
        ranges(rules, &table, entry);
        inner_types(rules, &table, entry);
    }
}

const ID_RULE: &str = "envelopes carry it, and a dot divides the two parts of a `kid`";
const ID_HELP: &str = "write 1 to 64 letters, digits, `_` or `-`";

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

fn versions(rules: &mut Rules<'_>, list: &Place, name: &str, ring: &Keyring) {
    let mut ids: HashMap<&str, Place> = HashMap::new();
    let mut kids: HashMap<&str, Place> = HashMap::new();
    for (i, version) in ring.versions.iter().enumerate() {
        let place = list.index(i);
        let id = place.key("id");
        if !is_id(&version.id) {
            rules.add(Fault::at(id, format!("{:?} cannot be the id of a key: {ID_RULE}", version.id)).help(ID_HELP));
        } else if let Some(first) = ids.get(version.id.as_str()) {
            let message = format!("there is a version `{}` already{}", version.id, rules.line(first));
            rules.add(Fault::at(id, message).help("give each version an id of its own: the month it was made in, say"));
        } else {
            ids.insert(&version.id, id);
        }
        if version.until.is_some() && version.state != KeyState::Retiring && rules.sound(&place.key("state")) {
            let message = format!("`until` ends a key that is retiring, and this one is {}", version.state.name());
            rules.add(
                Fault::at(place.key("until"), message).on_key().help("remove it, or write `state = \"retiring\"`"),
            );
        }
        let Some(kid) = &version.kid else { continue };
        let at = place.key("kid");
        if ring.kind != KeyKind::Rsa && rules.sound(&list.parent().key("kind")) {
            let message = format!("the `kid` of a key of kind {} is NAME.id", ring.kind.name());
            rules.add(Fault::at(at, message).on_key().help("remove it: only partners of `rsa` keys dictate one"));
        } else if kid.is_empty() || kid.len() > 256 || kid.chars().any(char::is_control) {
            rules.add(Fault::at(at, "this is no `kid`").help("write 1 to 256 characters, as the partner sends them"));
        } else if let Some(first) = kids.get(kid.as_str()) {
            let message = format!("there is a version with this `kid` already{}", rules.line(first));
            rules.add(Fault::at(at, message).help("give each version its own"));
        } else if let Some((other, id)) = shadowed(rules.config, kid).filter(|own| *own != (name, &version.id)) {
            let message =
                format!("`{kid}` is the name of version `{id}` of `[keyrings.{other}]`, which would never be found");
            rules.add(Fault::at(at, message).help("give that ring or that version another name"));
        } else {
            kids.insert(kid, at);
        }
    }
    one_active(rules, list, ring);
}

/// The version whose own name, `NAME.id`, a partner's `kid` is. Two partners may well send one `kid`: an entry has one of their
/// rings.
fn shadowed<'c>(config: &'c Config, kid: &'c str) -> Option<(&'c str, &'c String)> {
    let (name, id) = kid.split_once('.')?;
    let (name, ring) = config.keyrings.get_key_value(name)?;
    ring.versions.iter().find(|version| version.id == id).map(|version| (name.as_str(), &version.id))
}

fn one_active(rules: &mut Rules<'_>, list: &Place, ring: &Keyring) {
    let mut active = ring.versions.iter().enumerate().filter(|(_, version)| version.state == KeyState::Active);
    match (active.next(), active.next()) {
        (None, _) => {
            let fault = Fault::at(list.clone(), "no version is active: clients would have no key to seal to");
            rules.add(fault.help("write `state = \"active\"` for one of them"));
        }
        (Some((first, _)), Some((second, _))) => {
            let line = rules.line(&list.index(first).key("state"));
            let fault = Fault::at(list.index(second).key("state"), format!("two versions are active{line}"));
            rules.add(fault.help("write \"pending\" for the coming one, or \"retiring\" for the old one"));
        }
        _ => {}
    }
}

fn profiles(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let place = table.key("profile");
    rules.repeated(&place, entry.profile.listed());
    if !rules.written(&place) {
        return;
    }
    let founding = entry.profile.contains(Profile::CryptoJs);
    let given = [("master_key", entry.master_key.is_some()), ("master_keys", entry.master_keys.is_some())];
    if founding && given.iter().all(|(key, present)| !present && rules.sound(&table.key(key))) {
        let fault = Fault::at(place, "`cryptojs` derives its keys from a master key, and there is none");
        rules.add(fault.help("add `master_key = \"env:NAME\"`, or `master_keys = \"RING\"`"));
    }
    for (key, _) in given.into_iter().filter(|(_, present)| *present && !founding) {
        let message = format!("`{key}` belongs to the profile `cryptojs`, which is not listed");
        rules.add(Fault::at(table.key(key), message).on_key().help("remove it"));
    }
    if !founding {
        return;
    }
    if given.iter().all(|(_, present)| *present) {
        let fault = Fault::at(table.key("master_keys"), "`master_key` is there, too: which of them is it?");
        rules.add(fault.on_key().help("remove one; the single key can be a version of the ring"));
    } else {
        master_keys(rules, table, entry);
    }
}

/// The ring is one of secrets, and they are for nothing else: a key has one use.
fn master_keys(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let Some(name) = &entry.master_keys else { return };
    let (config, place) = (rules.config, table.key("master_keys"));
    let Some(ring) = config.keyrings.get(name) else {
        return refer(rules, place, "keyrings", name, config.keyrings.keys());
    };
    if ring.kind != KeyKind::Secret && rules.sound(&at(&["keyrings", name, "kind"])) {
        let message = format!("master keys are secrets, and `{name}` is of kind {}", ring.kind.name());
        rules.add(Fault::at(place.clone(), message).help("name a ring of `kind = \"secret\"`"));
    }
    let derives =
        |other: &Encryption| other.profile.listed().iter().any(|profile| profile.kinds().contains(&KeyKind::Secret));
    let of_sessions = config.encryption.values().any(|other| other.keyrings.contains(name) && derives(other));
    let of_tokens = config.jwt.values().filter_map(|jwt| jwt.decryption.as_ref()).any(|used| used.keyring == *name);
    if of_sessions || of_tokens {
        let other = if of_sessions { "session keys are derived from" } else { "tokens are encrypted to" };
        let fault = Fault::at(place, format!("`{name}` is what {other}: clients hold master keys"));
        rules.add(fault.help("make a ring of its own: `gapura keyring new masters --kind secret`"));
    }
}

/// What belongs to `jwe-rsa` alone.
fn partner(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    if !rules.written(&table.key("profile")) {
        return;
    }
    let listed = entry.profile.contains(Profile::JweRsa);
    let keys = [
        ("preset", entry.preset.is_some()),
        ("response_key", entry.response_key.is_some()),
        ("response_kid", entry.response_kid.is_some()),
    ];
    for (key, present) in keys {
        if present && !listed {
            let message = format!("`{key}` belongs to the profile `jwe-rsa`, which is not listed");
            rules.add(Fault::at(table.key(key), message).on_key().help("remove it"));
        }
    }
    if listed && entry.response_key.is_none() && rules.sound(&table.key("response_key")) {
        let fault =
            Fault::at(table.key("profile"), "`jwe-rsa` seals responses to the partner's key, and there is none");
        rules.add(fault.help("add `response_key = \"file:/path\"`"));
    }
    if let Some(kid) = &entry.response_kid {
        rules.not_empty(table.key("response_kid"), kid);
    }
}

fn rings(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let config = rules.config;
    let list = table.key("keyrings");
    rules.repeated(&list, &entry.keyrings);
    let mut kinds: HashMap<KeyKind, &str> = HashMap::new();
    let mut unknown = false;
    for (i, name) in entry.keyrings.iter().enumerate() {
        let place = list.index(i);
        let Some(ring) = config.keyrings.get(name) else {
            unknown = true;
            refer(rules, place, "keyrings", name, config.keyrings.keys());
            continue;
        };
        if !rules.sound(&at(&["keyrings", name, "kind"])) || !rules.written(&table.key("profile")) {
            unknown = true;
            continue;
        }
        let kind = ring.kind.name();
        if let Some(other) = kinds.insert(ring.kind, name) {
            if other != name {
                let message = format!("`{other}` is of the kind {kind}, too: which of them would clients seal to?");
                rules.add(Fault::at(place, message).help("name one keyring of each kind; old keys are versions of it"));
            }
        } else if !entry.profile.listed().iter().any(|profile| profile.kinds().contains(&ring.kind)) {
            let names: Vec<&str> = entry.profile.listed().iter().map(|profile| profile.name()).collect();
            unknown = true;
            // Meant for `stream`, which says so itself.
            if entry.stream
                && Profile::Aes128Gcm.kinds().contains(&ring.kind)
                && !entry.profile.contains(Profile::Aes128Gcm)
            {
                continue;
            }
            let message = format!("no key of kind {kind} is used by {}", names.join(" or "));
            rules.add(Fault::at(place, message).help("remove it, or add the profile that takes it"));
        }
    }
    if unknown || !rules.sound(&list) || !rules.written(&table.key("profile")) {
        return;
    }
    for profile in entry.profile.listed() {
        let takes = profile.kinds();
        if !takes.is_empty() && !takes.iter().any(|kind| kinds.contains_key(kind)) {
            let names: Vec<&str> = takes.iter().map(|kind| kind.name()).collect();
            let fault = Fault::at(table.key("profile"), format!("`{}` has no keyring to open with", profile.name()));
            rules.add(fault.help(format!("add `keyrings = [\"NAME\"]` with a ring of kind {}", names.join(" or "))));
        }
    }
}

/// What only the founding format can do without: its clients may send no time worth checking.
fn strength(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let Some(strong) = entry.profile.listed().iter().find(|profile| profile.is_strong()) else { return };
    let off = [
        ("max_age", entry.max_age == PeriodOrOff::Off, "its envelopes always end"),
        ("replay", entry.replay == crate::model::Replay::Off, "its envelopes never pass twice"),
    ];
    for (key, is_off, why) in off {
        if is_off {
            let message =
                format!("`{key} = \"off\"` is for `cryptojs` alone, and `{}` is listed: {why}", strong.name());
            rules.add(Fault::at(table.key(key), message).help("remove it, or make two entries"));
        }
    }
}

fn ranges(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let bounds =
        [("session_key_lifetime", entry.session_key_lifetime, 60, 24 * 3600), ("clock_skew", entry.clock_skew, 1, 300)];
    for (key, value, least, most) in bounds {
        let range = Duration::from_secs(least)..=Duration::from_secs(most);
        if !range.contains(&value.get()) {
            let fault = Fault::at(table.key(key), format!("`{value}` is out of range"));
            rules.add(fault.help(format!("write \"{}\" to \"{}\"", Period::secs(least), Period::secs(most))));
        }
    }
}

fn inner_types(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let list = table.key("inner_types");
    rules.repeated(&list, &entry.inner_types);
    for (i, written) in entry.inner_types.iter().enumerate() {
        let part =
            |text: &str| crate::model::is_token(text) && !text.bytes().any(|b| b.is_ascii_uppercase() || b == b'*');
        if !written.split_once('/').is_some_and(|(kind, subtype)| part(kind) && part(subtype)) {
            let message =
                format!("{written:?} is no media type as it is compared: lower case, without parameters or `*`");
            rules.add(Fault::at(list.index(i), message).help("write \"application/json\""));
        }
    }
}
