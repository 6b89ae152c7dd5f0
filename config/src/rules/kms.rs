//! `[kms]`, and which keys may stay in AWS KMS.

use std::time::Duration;

use super::{Rules, at};
use crate::{
    fault::Fault,
    model::{KeyKind, KeyState, KeyVersion, Kms},
    secret::SecretRef,
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let (table, kms) = (at(&["kms"]), &rules.config.kms);
    let ms = Duration::from_millis;
    let mut in_range = rules.sound(&table.key("cache")) && rules.sound(&table.key("timeout"));
    for (key, period, least, most, bounds) in [
        ("cache", kms.cache, ms(1000), ms(300_000), "1 s to 5 min"),
        ("timeout", kms.timeout, ms(100), ms(30_000), "100 ms to 30 s"),
    ] {
        if !(least..=most).contains(&period.get()) {
            in_range = false;
            let fault = Fault::at(table.key(key), format!("`{period}` is out of range"));
            rules.add(fault.help(format!("write a time from {bounds}")));
        }
    }
    if in_range && kms.timeout.get() > kms.cache.get() / 4 {
        let message = format!(
            "a question may take {}, and a key lasts {}: it could end while KMS is asked",
            kms.timeout, kms.cache
        );
        rules.add(Fault::at(table.key("timeout"), message).help("write at most a quarter of `cache`"));
    }
    let is_region = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if let Some(region) = kms.region.as_ref().filter(|region| !is_region(region)) {
        let fault = Fault::at(table.key("region"), format!("`{}` is no region of AWS", region.escape_debug()));
        rules.add(fault.help("write it as in an ARN: \"eu-central-1\""));
    }
    if kms.encryption_context.contains_key("") {
        let fault = Fault::at(table.key("encryption_context"), "a name in it is empty: KMS takes no such context");
        rules.add(fault.help("write what the keys were encrypted with: { service = \"gapura\" }"));
    }
    if let Some(endpoint) = &kms.endpoint {
        let place = table.key("endpoint");
        if !Kms::is_private(endpoint) {
            let fault = Fault::at(place, "keys would travel in the clear, or this is no address");
            rules.add(fault.help("write https://host, or http:// of this machine: http://127.0.0.1:4566"));
        }
    }
    for (name, jwt) in &rules.config.jwt {
        let ring = jwt.decryption.as_ref().and_then(|decryption| rules.config.keyrings.get(&decryption.keyring));
        let elsewhere =
            |version: &KeyVersion| matches!(version.key, SecretRef::KmsKey(_)) && version.state != KeyState::Revoked;
        if ring.is_some_and(|ring| ring.versions.iter().any(elsewhere)) {
            let place = at(&["jwt", name, "decryption", "keyring"]);
            let fault = Fault::at(
                place,
                "tokens would be asked about before anybody is known: their keys do not stay in AWS KMS",
            );
            rules.add(fault.help("write a keyring with \"kms:file:/path\", the key encrypted by KMS"));
        }
    }
    for (name, ring) in &rules.config.keyrings {
        let list = at(&["keyrings", name, "versions"]);
        for (i, version) in ring.versions.iter().enumerate() {
            let elsewhere = matches!(version.key, SecretRef::KmsKey(_)) && version.state != KeyState::Revoked;
            if elsewhere && ring.kind != KeyKind::Rsa && rules.sound(&at(&["keyrings", name, "kind"])) {
                let message = format!(
                    "a key that stays in AWS KMS opens for kind rsa only, and this ring is {}",
                    ring.kind.name()
                );
                let fault = Fault::at(list.index(i).key("key"), message);
                rules.add(fault.help("write \"kms:file:/path\" with the key encrypted by KMS"));
            }
        }
    }
}
