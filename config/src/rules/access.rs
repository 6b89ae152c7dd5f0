//! Who may call a route, beside what its credentials say.

use std::time::Duration;

use ipnet::IpNet;

use super::{Rules, at};
use crate::{
    fault::{Fault, Place},
    guard::{self, Mistake},
    model::Route,
    nearest::nearest,
};

/// `allow` and `deny` of one route.
pub(super) fn addresses(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let (allow, deny) = (route.allow.as_deref().unwrap_or_default(), route.deny.as_deref().unwrap_or_default());
    for (key, list) in [("allow", allow), ("deny", deny)] {
        host_bits(rules, &table.key(key), list);
        let list: Vec<IpNet> = list.iter().map(IpNet::trunc).collect();
        rules.repeated(&table.key(key), &list);
    }
    if !rules.sound(&table.key("deny")) {
        return;
    }
    for (i, network) in allow.iter().enumerate() {
        if let Some(denied) = deny.iter().find(|denied| denied.contains(network)) {
            let message = format!("`{network}` never passes: it is within `{denied}` of `deny`, which wins");
            let fault = Fault::warning(table.key("allow").index(i), message);
            rules.add(fault.help("remove it, or deny less"));
        }
    }
}

/// A network that was written as one of its addresses: the whole network counts, and who wrote it may have meant the address.
pub(super) fn host_bits(rules: &mut Rules<'_>, place: &Place, list: &[IpNet]) {
    for (i, written) in list.iter().enumerate().filter(|(_, network)| network.addr() != network.network()) {
        let (network, address) = (written.trunc(), IpNet::from(written.addr()));
        let fault = Fault::warning(place.index(i), format!("`{written}` means all of `{network}`"));
        rules.add(fault.help(format!("write \"{network}\", or \"{address}\" for the one address")));
    }
}

/// The condition itself, and what it refers to.
pub(super) fn guard(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let place = table.key("guard");
    let Some(written) = route.guard.as_deref().filter(|_| rules.sound(&place)) else { return };
    let condition = match guard::parse(written) {
        Ok(condition) => condition,
        Err(Mistake { at, message, help }) => {
            let fault = match rules.source.within_text(&place, written, at.clone()) {
                Some(span) => Fault::at(place, message).on_span(span),
                // Where the file has escapes, columns are counted in what they stand for.
                None => {
                    Fault::at(place, format!("{message} (at character {})", written[..at.start].chars().count() + 1))
                }
            };
            rules.add(fault.help(help));
            return;
        }
    };
    if rules.sound(&table.key("path")) {
        let known: Vec<&str> = guard::named_segments(&route.path).map(|(_, name)| name).collect();
        for name in condition.segments().into_iter().filter(|name| !known.contains(name)) {
            let message = format!("`path.{name}` is no segment of `{}`", route.path);
            let help = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean `path.{meant}`?"),
                None => format!("name it in `path`: \"/users/{{{name}}}\""),
            };
            rules.add(Fault::at(place.clone(), message).help(help));
        }
    }
    if !rules.sound(&table.key("auth")) {
        return;
    }
    if route.auth.is_empty() && condition.needs_caller() {
        let message = "the guard asks who calls, and this route is public: nobody has to say who they are";
        rules.add(Fault::at(place, message).help("add `auth = [\"jwt.NAME\"]`"));
    } else if !condition.claims().is_empty() && !route.auth.iter().any(|method| method.starts_with("jwt.")) {
        let message = "the guard asks for claims, and no caller of this route has a token";
        rules.add(Fault::warning(place, message).help("compare with `user.id`, or add a `jwt.NAME` to `auth`"));
    }
}

pub(super) fn lockout(rules: &mut Rules<'_>) {
    let lockout = &rules.config.lockout;
    let table = at(&["lockout"]);
    let day = Duration::from_secs(86_400);
    let hour = Duration::from_secs(3600);
    let second = Duration::from_secs(1);
    for (key, period, most, shown) in [
        ("window", lockout.window, hour, "1h"),
        ("duration", lockout.duration, day, "1d"),
        ("max_duration", lockout.max_duration, day, "1d"),
    ] {
        if !(second..=most).contains(&period.get()) {
            let fault = Fault::at(table.key(key), format!("`{period}` is out of range"));
            rules.add(fault.help(format!("write \"1s\" to \"{shown}\"")));
        }
    }
    if lockout.duration.get() > lockout.max_duration.get() && rules.sound(&table.key("max_duration")) {
        let message = format!("the first lock-out is longer than the longest, `{}`", lockout.max_duration);
        rules.add(Fault::at(table.key("duration"), message).help("write a shorter one, or raise `max_duration`"));
    }
    let place = table.key("exempt");
    host_bits(rules, &place, &lockout.exempt);
    rules.repeated(&place, &lockout.exempt);
    for (i, network) in lockout.exempt.iter().enumerate().filter(|(_, network)| network.prefix_len() == 0) {
        let fault = Fault::warning(place.index(i), format!("`{network}` is everyone: nobody is ever locked out"));
        rules.add(fault.help("name only what must never be locked out; `mode = \"off\"` switches lock-outs off"));
    }
}
