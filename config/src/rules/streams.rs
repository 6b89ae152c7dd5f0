//! Encryptions whose bodies pass record by record: nothing on their routes can ask for a whole body.

use super::{Rules, at};
use crate::{
    fault::{Fault, Place},
    model::{Encryption, Profile},
    units::Size,
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, entry) in config.encryption.iter().filter(|(_, entry)| entry.stream) {
        let table = at(&["encryption", name]);
        whole(rules, &table, entry);
        // Of an entry with nothing that can be streamed, that is all there is to say.
        if rules.written(&table.key("profile")) && !entry.profile.contains(Profile::Aes128Gcm) {
            continue;
        }
        json(rules, &table, entry);
        if entry.max_response != Size::mib(8) {
            let message = "`max_response` bounds what is held in memory, and with `stream` no response is";
            rules.add(Fault::warning(table.key("max_response"), message).on_key().help("remove it"));
        }
    }
    for (i, route) in config.routes.iter().enumerate() {
        let entry = route.encryption.as_ref().and_then(|name| config.encryption.get(name));
        if route.issues.is_some() && entry.is_some_and(|entry| entry.stream) {
            let message = "`issues` reads whole responses, and those of this route's encryption are streamed";
            let fault = Fault::at(at(&["routes"]).index(i).key("issues"), message).on_key();
            rules.add(fault.help("remove it, or name an encryption without `stream`"));
        }
    }
}

/// What cannot say yes to a part.
fn whole(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let place = table.key("stream");
    if rules.written(&table.key("profile")) && entry.profile.listed() != [Profile::Aes128Gcm] {
        let message = "only `aes128gcm` can be streamed: a message of another profile proves itself as a whole";
        rules.add(
            Fault::at(place.clone(), message).on_key().help("write `profile = \"aes128gcm\"`, or make two entries"),
        );
    }
    if !entry.required {
        let message =
            "`required = false` looks at whole bodies to tell envelopes from plaintext, and `stream` has none";
        rules.add(Fault::at(table.key("required"), message).on_key().help("remove one of them"));
    }
    if !entry.members.is_empty() {
        let message = "`members` stand in JSON that is read whole, and `stream` reads none";
        rules.add(Fault::at(table.key("members"), message).on_key().help("remove one of them"));
    }
}

/// Of JSON the gateway promises that it is well-formed before the upstream sees any of it.
fn json(rules: &mut Rules<'_>, table: &Place, entry: &Encryption) {
    let list = table.key("inner_types");
    let is_json = |kind: &String| {
        let kind = kind.to_lowercase();
        kind.ends_with("/json") || kind.ends_with("+json")
    };
    let Some(i) = entry.inner_types.iter().position(is_json) else { return };
    let help = "list what is streamed, `inner_types = [\"application/octet-stream\"]` say; JSON goes to an entry without `stream`";
    let fault = if rules.source.has(&list) {
        Fault::at(list.index(i), "JSON is checked whole before it goes on, and with `stream` it would not be")
    } else {
        let message = "without `inner_types` bodies are JSON, which is checked whole before it goes on";
        Fault::at(table.key("stream"), message).on_key()
    };
    rules.add(fault.help(help));
}
