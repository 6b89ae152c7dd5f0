//! What only some profiles have a use for: the MAC and the end of the founding format, members.

use super::{Rules, at};
use crate::{
    fault::Fault,
    model::{MacMode, Profile},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, entry) in &config.encryption {
        let table = at(&["encryption", name]);
        if !rules.written(&table.key("profile")) {
            continue;
        }
        let founding = entry.profile.contains(Profile::CryptoJs);
        for (key, is_set) in
            [("mac", entry.mac != MacMode::Off), ("accept_legacy_until", entry.accept_legacy_until.is_some())]
        {
            if is_set && !founding {
                let message = format!("`{key}` belongs to the profile `cryptojs`, which is not listed");
                rules.add(Fault::at(table.key(key), message).on_key().help("remove it"));
            }
        }
        if entry.accept_legacy_until.is_some() && founding && entry.profile.listed().len() == 1 {
            let message = "after this day nothing is accepted: `cryptojs` is the only profile";
            let fault = Fault::warning(table.key("accept_legacy_until"), message);
            rules.add(fault.help("list the profile that clients move to: `profile = [\"hpke\", \"cryptojs\"]`"));
        }
        if !entry.members.is_empty() && entry.mac != MacMode::Off {
            let message = "`mac` vouches for whole bodies, and `members` are sealed one by one";
            rules.add(Fault::at(table.key("mac"), message).on_key().help("remove one of them"));
        }
        let members = table.key("members");
        rules.repeated(&members, &entry.members);
        if !entry.members.is_empty() && entry.profile.contains(Profile::JweRsa) {
            let message = "`jwe-rsa` is bound to no request, and so to no member of one";
            rules.add(Fault::at(members, message).on_key().help("list \"jwe\", or remove `members`"));
        }
    }
}
