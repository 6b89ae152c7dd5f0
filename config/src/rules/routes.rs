//! Routes: what they refer to, and whether their parts fit together.

use std::collections::HashMap;

use super::{NAME_HELP, NAME_RULE, Rules, access, at, callers, tokens, traffic};
use crate::{
    fault::{Fault, Place},
    formats, guard,
    model::{ApiKeys, Jwt, LimitKey, Route, TokenSource},
    nearest::{listed, nearest},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let routes = &rules.config.routes;
    let list = at(&["routes"]);
    if routes.is_empty() {
        let fault = Fault::at(list.clone(), "there is no route: every request would be answered with 404");
        rules.add(fault.help("add a `[[routes]]`"));
    }
    names(rules, &list, routes);
    overlaps(rules, &list, routes);
    for (i, route) in routes.iter().enumerate() {
        let table = list.index(i);
        references(rules, &table, route);
        access::addresses(rules, &table, route);
        access::guard(rules, &table, route);
        needs_caller(rules, &table, route);
        limits(rules, &table, route);
        queue(rules, &table, route);
        priority(rules, &table, route);
        credentials(rules, &table, route);
        tokens::on_route(rules, &table, route);
        for (key, items) in [("permissions", &route.permissions), ("roles", &route.roles)] {
            callers::granted(rules, &table.key(key), items);
        }
        rules.repeated(&table.key("methods"), &route.methods);
    }
}

fn names(rules: &mut Rules<'_>, list: &Place, routes: &[Route]) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (i, route) in routes.iter().enumerate() {
        let place = list.index(i).key("name");
        if !formats::is_name(&route.name) {
            rules.add(Fault::at(place, format!("{:?} cannot be a name: {NAME_RULE}", route.name)).help(NAME_HELP));
        } else if let Some(first) = seen.get(route.name.as_str()) {
            let message = format!("there is a route `{}` already{}", route.name, rules.line(first));
            rules.add(Fault::at(place, message).help("give each route a name of its own"));
        } else {
            seen.insert(&route.name, place);
        }
    }
}

/// Two routes for one request: the second would never be reached, and with it perhaps its authentication.
fn overlaps(rules: &mut Rules<'_>, list: &Place, routes: &[Route]) {
    let mut by_path: HashMap<String, Vec<(usize, &Route)>> = HashMap::new();
    for (i, route) in routes.iter().enumerate() {
        let table = list.index(i);
        if !rules.sound(&table.key("path")) || !rules.sound(&table.key("methods")) {
            continue;
        }
        let earlier = by_path.entry(nameless(&route.path)).or_default();
        let shared =
            earlier.iter().find_map(|(i, other)| Some((*i, other, common_method(&route.methods, &other.methods)?)));
        if let Some((first, other, method)) = shared {
            let line = rules.line(&list.index(first).key("path"));
            let message = format!("{method} `{}` goes to the route `{}` already{line}", route.path, other.name);
            let fault = Fault::at(table.key("path"), message);
            rules.add(fault.help("give the routes different `methods` or different paths"));
        } else {
            earlier.push((i, route));
        }
    }
}

/// A named segment matches as `*` does.
fn nameless(path: &str) -> String {
    let plain = path.split('/').map(|segment| if guard::segment_name(segment).is_some() { "*" } else { segment });
    plain.collect::<Vec<_>>().join("/")
}

/// A method that both take; an empty list takes all.
fn common_method<'r>(one: &'r [String], other: &'r [String]) -> Option<&'r str> {
    match (one, other) {
        ([], []) => Some("every method of"),
        ([], methods) | (methods, []) => methods.first().map(String::as_str),
        (ours, theirs) => {
            let takes = |methods: &[String], method: &str| {
                methods.iter().any(|known| known == method || (known == "GET" && method == "HEAD"))
            };
            ours.iter()
                .find(|method| takes(theirs, method))
                .or_else(|| theirs.iter().find(|method| takes(ours, method)))
        }
        .map(String::as_str),
    }
}

fn references(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let config = rules.config;
    refer(rules, table.key("upstream"), "upstreams", &route.upstream, config.upstreams.keys());
    if let Some(encryption) = &route.encryption {
        refer(rules, table.key("encryption"), "encryption", encryption, config.encryption.keys());
    }
    let list = table.key("rate_limits");
    rules.repeated(&list, &route.rate_limits);
    for (i, limit) in route.rate_limits.iter().enumerate() {
        refer(rules, list.index(i), "rate_limits", limit, config.rate_limits.keys());
    }
    let list = table.key("auth");
    rules.repeated(&list, &route.auth);
    for (i, method) in route.auth.iter().enumerate() {
        let place = list.index(i);
        match method.split_once('.') {
            Some(("jwt", name)) => refer(rules, place, "jwt", name, config.jwt.keys()),
            Some(("mtls", name)) => refer(rules, place, "mtls", name, config.mtls.keys()),
            Some(("api_keys", name)) => refer(rules, place, "api_keys", name, config.api_keys.keys()),
            _ => {
                let all = methods(rules);
                let fault = Fault::at(place, format!("`{method}` is not a way to authenticate"));
                let bare = method.rsplit('.').next().unwrap_or(method);
                let meant = all.iter().find(|known| known.split_once('.').is_some_and(|(_, name)| name == bare));
                let meant = meant.map(String::as_str).or_else(|| nearest(method, all.iter().map(String::as_str)));
                rules.add(match meant {
                    Some(meant) => fault.help(format!("did you mean \"{meant}\"?")),
                    None => fault.help("write \"jwt.NAME\", \"api_keys.NAME\" or \"mtls.NAME\""),
                });
            }
        }
    }
}

/// Everything that `auth` can name.
fn methods(rules: &Rules<'_>) -> Vec<String> {
    let jwt = rules.config.jwt.keys().map(|name| format!("jwt.{name}"));
    let mtls = rules.config.mtls.keys().map(|name| format!("mtls.{name}"));
    jwt.chain(mtls).chain(rules.config.api_keys.keys().map(|name| format!("api_keys.{name}"))).collect()
}

pub(super) fn refer<'n>(
    rules: &mut Rules<'_>,
    place: Place,
    section: &str,
    name: &str,
    known: impl Iterator<Item = &'n String>,
) {
    // `[upstream.a]` for `[upstreams.a]` is a fault of its own; so is an entry that could not be read.
    let target = at(&[section, name]);
    if !rules.written(&target) {
        return;
    }
    let known: Vec<&str> = known.map(String::as_str).collect();
    if known.contains(&name) {
        return;
    }
    let fault = Fault::at(place, format!("there is no `[{section}.{name}]`"));
    let prefix = if matches!(section, "jwt" | "api_keys" | "mtls") { format!("{section}.") } else { String::new() };
    rules.add(match nearest(name, known.iter().copied()) {
        Some(meant) => fault.help(format!("did you mean \"{prefix}{meant}\"?")),
        None if known.is_empty() => fault.help(format!("add a table `[{section}.{name}]`")),
        None => fault.help(format!("there {} {}", if known.len() == 1 { "is" } else { "are" }, listed(known))),
    });
}

/// A key of the envelope is the caller's, and so is a permission: neither means anything on a public route.
fn needs_caller(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    if !route.auth.is_empty() || !rules.sound(&table.key("auth")) {
        return;
    }
    // A route whose `auth` is misspelt is unsound itself, but only there.
    let needs = [
        ("encryption", route.encryption.is_some(), "envelopes are sealed under the caller's key"),
        ("permissions", !route.permissions.is_empty(), "permissions are the caller's"),
        ("roles", !route.roles.is_empty(), "roles are the caller's"),
        ("issues", route.issues.is_some(), "an operation token is for one caller"),
        ("requires", route.requires.is_some(), "an operation token is for one caller"),
    ];
    for (key, present, why) in needs {
        if present {
            let message = format!("{why}, and this route is public: nobody has to say who they are");
            rules.add(Fault::at(table.key(key), message).help("add `auth = [\"jwt.NAME\"]`"));
        }
    }
}

fn limits(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let config = rules.config;
    for (i, name) in route.rate_limits.iter().enumerate() {
        let Some(limit) = config.rate_limits.get(name) else { continue };
        let sound = rules.sound(&table.key("methods")) && rules.sound(&at(&["rate_limits", name, "methods"]));
        if sound && common_method(&limit.methods, &route.methods).is_none() {
            let message = format!("`{name}` counts {} only, which this route does not take", limit.methods.join(", "));
            let fault = Fault::warning(table.key("rate_limits").index(i), message);
            rules.add(fault.help("remove it here, or change the `methods` of one of them"));
        }
        let public = route.auth.is_empty();
        let keyless = !route.auth.iter().any(|method| method.starts_with("api_keys."));
        let absent = limit.by.keys().iter().find_map(|key| match key {
            LimitKey::User if public => Some("a user"),
            LimitKey::ApiKey if public || keyless => Some("an API key"),
            _ => None,
        });
        let Some(whom) = absent else { continue };
        if !rules.sound(&table.key("auth")) || !rules.sound(&at(&["rate_limits", name, "by"])) {
            continue;
        }
        let what = match limit.by.keys() {
            [_] => "all of them share one count",
            _ => "that part of the key is the same for all",
        };
        let message = format!("no caller of this route has {whom}: {what}");
        rules.add(
            Fault::warning(table.key("rate_limits").index(i), message).help("count by \"client_ip\", or add `auth`"),
        );
    }
    let entry = route.encryption.as_ref().and_then(|name| config.encryption.get(name));
    if entry.is_some_and(|entry| !entry.stream) && route.max_body > traffic::LARGE_BODY {
        let message = format!("an encrypted body is held whole in memory, up to `{}`", route.max_body);
        rules.add(Fault::warning(table.key("max_body"), message).help("the default is \"1MiB\""));
    }
}

fn priority(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let bound = at(&["limits", "max_in_flight"]);
    if !rules.sound(&bound) {
        return;
    }
    let Some(max) = rules.config.limits.max_in_flight else {
        let place = table.key("priority");
        if rules.source.has(&place) {
            let message = "`priority` says nothing without `limits.max_in_flight`: nobody is refused first";
            rules.add(Fault::warning(place, message).on_key().help("add `max_in_flight = 1000` to `[limits]`"));
        }
        return;
    };
    let share = route.priority.share(max);
    if let Some(own) = route.max_in_flight.filter(|own| *own > share) {
        let name = route.priority.name();
        let message = format!("never reached: with priority `{name}` at most {share} of all routes are in flight");
        rules.add(
            Fault::warning(table.key("max_in_flight"), message)
                .help(format!("write less than {own}, or raise `limits.max_in_flight`")),
        );
    }
}

fn queue(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    if route.max_in_flight.is_some() || !rules.sound_keys(table, &["max_in_flight"]) {
        return;
    }
    for key in ["queue", "queue_timeout"] {
        let place = table.key(key);
        if rules.source.has(&place) {
            let fault = Fault::at(place, format!("`{key}` says nothing without `max_in_flight`: nobody waits"));
            rules.add(fault.on_key().help("add `max_in_flight = 100`, or remove it"));
        }
    }
}

/// One credential must not be readable as two: a bad one never falls through to the next method (contract, section 3), so
/// a good one that the wrong method takes would be refused.
fn credentials(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let config = rules.config;
    let mut tokens: Vec<(&str, &Jwt)> = Vec::new();
    let mut keys: Vec<(&str, &ApiKeys)> = Vec::new();
    let mut certificates = None;
    for (i, method) in route.auth.iter().enumerate() {
        let place = table.key("auth").index(i);
        let Some((section, name)) = method.split_once('.') else { continue };
        if route.auth[..i].contains(method) || !rules.sound(&at(&[section, name])) {
            continue;
        }
        match section {
            "jwt" => {
                let Some(jwt) = config.jwt.get(name) else { continue };
                let rival = |(_, other): &&(&str, &Jwt)| other.issuer == jwt.issuer && other.token == jwt.token;
                if let Some((other, _)) = tokens.iter().find(rival) {
                    let which = match &jwt.issuer {
                        Some(issuer) => format!("have the issuer `{issuer}`"),
                        None => "have no issuer".into(),
                    };
                    let message = format!(
                        "`jwt.{other}` and `jwt.{name}` both {which}: a token's `iss` cannot choose between them"
                    );
                    rules.add(Fault::at(place, message).help("give each its own `issuer`, or keep one of them"));
                }
                tokens.push((name, jwt));
            }
            "mtls" => {
                if let Some(other) = certificates.replace(name) {
                    let message = format!("a certificate cannot choose between `mtls.{other}` and `mtls.{name}`");
                    rules.add(Fault::at(place, message).help("put their `principals` into one table"));
                }
            }
            "api_keys" => {
                let Some(method) = config.api_keys.get(name) else { continue };
                if let Some((other, _)) = keys.iter().find(|(_, other)| same_credential(method, other)) {
                    let message = format!("`api_keys.{other}` and `api_keys.{name}` both read `{}`", method.header);
                    rules.add(Fault::at(place, message).help("give them different schemes or headers, or one table"));
                }
                keys.push((name, method));
            }
            _ => {}
        }
    }
    if !tokens.iter().any(|(_, jwt)| jwt.token == TokenSource::Header) {
        return;
    }
    for (name, method) in keys {
        let Some(i) = route.auth.iter().position(|auth| auth.strip_prefix("api_keys.") == Some(name)) else { continue };
        let place = table.key("auth").index(i);
        if !method.header.eq_ignore_ascii_case("authorization") {
            continue;
        }
        let token = |scheme: &String| ["Bearer", "DPoP"].into_iter().find(|token| scheme.eq_ignore_ascii_case(token));
        let message = match method.scheme.as_ref().map(token) {
            None => format!("`api_keys.{name}` takes every value of `Authorization` for a key, tokens too"),
            Some(Some(token)) => {
                format!("`api_keys.{name}` and tokens both stand behind `Authorization: {token}`")
            }
            Some(None) => continue,
        };
        rules.add(
            Fault::at(place, message)
                .help(format!("give `[api_keys.{name}]` a scheme of its own: `scheme = \"ApiKey\"`")),
        );
    }
}

fn same_credential(one: &ApiKeys, other: &ApiKeys) -> bool {
    one.header.eq_ignore_ascii_case(&other.header)
        && match (&one.scheme, &other.scheme) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => true,
        }
}
