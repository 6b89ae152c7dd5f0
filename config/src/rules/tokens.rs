//! What the gateway asks of tokens beside their claims, and the tokens that it makes itself.

use std::time::Duration;

use super::{Rules, at, callers, certificates, routes, traffic::is_of_the_response};
use crate::{
    fault::{Fault, Place},
    guard,
    model::{Binding, IssuedFor, JwtAlgorithm, OnOutage, OperationToken, Route, Store, TokenSource, UsedFor},
    units::Period,
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    for (name, jwt) in &config.jwt {
        let place = at(&["jwt", name, "binding"]);
        if jwt.binding == Binding::Certificate {
            certificates::authority(rules, &place, "such tokens are held to");
        }
        if jwt.binding == Binding::Dpop && jwt.token != TokenSource::Header {
            let fault = Fault::at(place, format!("a proof goes with `Authorization: DPoP`, not with {}", jwt.token));
            rules.add(fault.help("leave `token` out, or write \"certificate\""));
        }
    }
    dpop(rules);
    assertion(rules);
    rules.names("operation_tokens", &config.operation_tokens);
    for (name, operation) in &config.operation_tokens {
        operation_token(rules, name, operation);
    }
    once(rules);
}

/// Envelopes are refused by their age as well; what is for one use has nothing but the memory of it.
fn once(rules: &mut Rules<'_>) {
    let state = &rules.config.state;
    let open = state.redis.as_ref().is_some_and(|redis| redis.on_outage == OnOutage::Open);
    if open && state.store == Store::Redis && !rules.config.operation_tokens.is_empty() {
        let message = "while Redis is away an operation token may be used any number of times";
        let fault = Fault::warning(at(&["state", "redis", "on_outage"]), message);
        rules.add(fault.help("write \"closed\""));
    }
}

fn within(rules: &mut Rules<'_>, place: Place, period: Period, (least, most): (u64, u64), bounds: &str) {
    let seconds = Duration::from_secs;
    if !(seconds(least)..=seconds(most)).contains(&period.get()) {
        rules.add(Fault::at(place, format!("`{period}` is out of range")).help(format!("write a time from {bounds}")));
    }
}

fn dpop(rules: &mut Rules<'_>) {
    use JwtAlgorithm as A;
    let (table, dpop) = (at(&["dpop"]), &rules.config.dpop);
    rules.repeated(&table.key("algorithms"), &dpop.algorithms);
    for (i, algorithm) in dpop.algorithms.iter().enumerate() {
        if matches!(algorithm, A::HS256 | A::HS384 | A::HS512) {
            let message = format!("`{algorithm:?}` has no public key: whoever can verify a proof could make it");
            rules.add(Fault::at(table.key("algorithms").index(i), message).help("write \"ES256\" or \"EdDSA\""));
        }
    }
    within(rules, table.key("max_age"), dpop.max_age, (1, 600), "\"1s\" to \"10m\"");
    if dpop.leeway.get() > Duration::from_secs(60) {
        let fault = Fault::at(table.key("leeway"), format!("`{}` is out of range", dpop.leeway));
        rules.add(fault.help("write at most \"1m\": proofs are made for one request"));
    }
    if dpop.nonce && dpop.nonce_key.is_none() && rules.sound(&table) && rules.config.state.store == Store::Redis {
        let message =
            "each instance makes nonces with a key of its own, and with Redis there are several: none knows another's";
        let fault = Fault::warning(table.key("nonce"), message);
        rules.add(fault.help("add `nonce_key = \"env:DPOP_NONCE_KEY\"`, the same for all"));
    }
    if dpop.nonce_key.is_some() && !dpop.nonce && rules.sound(&table.key("nonce")) {
        let fault = Fault::at(table.key("nonce_key"), "no proof is asked for a nonce");
        rules.add(fault.on_key().help("add `nonce = true`, or remove it"));
    }
}

fn assertion(rules: &mut Rules<'_>) {
    let (config, table) = (rules.config, at(&["identity_assertion"]));
    let routes = || config.routes.iter().enumerate();
    let wanted = config.upstreams.iter().filter(|(_, upstream)| upstream.identity_assertion);
    let wanted = wanted.map(|(name, _)| at(&["upstreams", name, "identity_assertion"]));
    let on_routes = routes().filter(|(_, route)| route.identity_assertion == Some(true));
    let wanted: Vec<Place> =
        wanted.chain(on_routes.map(|(i, _)| at(&["routes"]).index(i).key("identity_assertion"))).collect();
    let Some(assertion) = &config.identity_assertion else {
        if rules.written(&table) {
            for place in wanted {
                let fault = Fault::at(place, "there is no `[identity_assertion]` that says how they are signed");
                rules.add(fault.on_key().help("add one with `keys` and `issuer`"));
            }
        }
        return;
    };
    if wanted.is_empty() {
        let fault = Fault::warning(table.clone(), "no upstream gets assertions").on_key();
        rules.add(fault.help("add `identity_assertion = true` to an upstream, or remove it"));
    }
    rules.repeated(&table.key("keys"), &assertion.keys);
    rules.not_empty(table.key("issuer"), &assertion.issuer);
    rules.not_empty(table.key("audience"), assertion.audience.as_deref().unwrap_or("-"));
    within(rules, table.key("lifetime"), assertion.lifetime, (1, 600), "\"1s\" to \"10m\"");
    own_header(rules, table.key("header"), &assertion.header);
    for (i, _) in routes().filter(|(_, route)| route.path == KEYS_PATH) {
        let fault =
            Fault::at(at(&["routes"]).index(i).key("path"), "here the gateway itself publishes the keys of assertions");
        rules.add(fault.help("give the route another path"));
    }
}

/// Where verifiers find the keys of assertions.
const KEYS_PATH: &str = "/.well-known/gapura/assertion-keys";

/// A header that the gateway writes itself must not be one that means something else.
fn own_header(rules: &mut Rules<'_>, place: Place, header: &str) {
    if has_a_meaning(header) || is_of_the_response(&header.to_ascii_lowercase()) {
        let fault = Fault::at(place, format!("`{header}` has a meaning of its own"));
        rules.add(fault.help("write a header that nothing else uses, as \"X-Operation-Token\""));
    } else if let Some(method) = read_by(rules, header) {
        let fault = Fault::at(place, format!("`{header}` is where `{method}` looks for keys"));
        rules.add(fault.help("write a header that nothing else uses, as \"X-Operation-Token\""));
    }
}

/// Of requests.
fn has_a_meaning(header: &str) -> bool {
    const SHARED: [&str; 6] =
        ["authorization", "proxy-authorization", "dpop", "set-cookie", "www-authenticate", "x-gapura-envelope"];
    callers::is_taken(header) || SHARED.iter().any(|taken| header.eq_ignore_ascii_case(taken))
}

/// Headers that are one to a server that reads `_` as `-` are one here.
fn same_header(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| {
            let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
            fold(one) == fold(other)
        })
}

/// The API keys that stand in this header.
fn read_by(rules: &Rules<'_>, header: &str) -> Option<String> {
    let mut methods = rules.config.api_keys.iter();
    methods.find(|(_, method)| same_header(&method.header, header)).map(|(name, _)| format!("api_keys.{name}"))
}

/// A transaction has to be said by the client, and to reach the upstream as it was compared.
fn transaction_header(rules: &mut Rules<'_>, table: &Place, operation: &OperationToken) {
    let config = rules.config;
    if let Some(UsedFor::Header(name)) = &operation.used_for {
        let assertion = config.identity_assertion.as_ref();
        let why = if same_header(name, &operation.header) {
            Some("carries the token itself")
        } else if has_a_meaning(name) {
            Some("is written by the gateway, or says something else")
        } else if assertion.is_some_and(|assertion| same_header(name, &assertion.header)) {
            Some("carries the assertion to the upstream")
        } else if read_by(rules, name).is_some() {
            Some("is where API keys are looked for")
        } else {
            None
        };
        if let Some(why) = why {
            let fault =
                Fault::at(table.key("used_for"), format!("`{name}` {why}: no client says there what a request is for"));
            rules.add(fault.help("write a header of the client's, as \"header:X-Payment-Id\", or \"path:id\""));
        }
    }
    if let Some(IssuedFor::Header(name)) = &operation.issued_for
        && same_header(name, &operation.header)
    {
        let message = format!("`{name}` carries the token itself: what the upstream writes there never passes");
        let fault = Fault::at(table.key("issued_for"), message);
        rules.add(fault.help("write another header of the response, or \"body:/id\""));
    }
}

fn operation_token(rules: &mut Rules<'_>, name: &str, operation: &OperationToken) {
    let (config, table) = (rules.config, at(&["operation_tokens", name]));
    signed_with(rules, name, operation);
    within(rules, table.key("lifetime"), operation.lifetime, (1, 86_400), "\"1s\" to \"1d\"");
    own_header(rules, table.key("header"), &operation.header);
    transaction_header(rules, &table, operation);
    if rules.sound_keys(&table, &["issued_for", "used_for"]) {
        let alone = match (&operation.issued_for, &operation.used_for) {
            (Some(_), None) => Some(("issued_for", "used_for", "path:id")),
            (None, Some(_)) => Some(("used_for", "issued_for", "body:/id")),
            _ => None,
        };
        if let Some((key, other, example)) = alone {
            let fault = Fault::at(table.key(key), format!("without `{other}` there is nothing to compare it with"));
            rules.add(fault.on_key().help(format!("add `{other} = \"{example}\"`")));
        }
    }
    let all = || config.routes.iter().enumerate().map(|(i, route)| (at(&["routes"]).index(i), route));
    let issuing: Vec<_> = all().filter(|(_, route)| route.issues.as_deref() == Some(name)).collect();
    let using: Vec<_> = all().filter(|(_, route)| route.requires.as_deref() == Some(name)).collect();
    for (key, routes, word) in [("issues", &issuing, "gives one out"), ("requires", &using, "asks for one")] {
        if routes.is_empty() {
            let fault = Fault::warning(table.clone(), format!("no route {word} of `[operation_tokens.{name}]`"));
            rules.add(fault.on_key().help(format!("write `{key} = \"{name}\"` on a route")));
        }
    }
    for (place, _) in using.iter().skip(1) {
        let line = rules.line(&using[0].0.key("requires"));
        let fault =
            Fault::at(place.key("requires"), format!("a token is for one route, and another asks for it{line}"));
        rules.add(fault.help("give this route a table of its own"));
    }
    if let Some(IssuedFor::Path(segment)) = &operation.issued_for {
        issuing.iter().for_each(|(place, route)| has_segment(rules, place, route, segment));
    }
    if let Some(UsedFor::Path(segment)) = &operation.used_for {
        using.iter().for_each(|(place, route)| has_segment(rules, place, route, segment));
    }
}

/// One key, or a list of them; each must be another.
fn signed_with(rules: &mut Rules<'_>, name: &str, operation: &OperationToken) {
    let table = at(&["operation_tokens", name]);
    rules.repeated(&table.key("keys"), &operation.keys);
    if operation.keys.len() > MAX_KEYS {
        let fault = Fault::at(table.key("keys"), format!("there are more than {MAX_KEYS} keys"));
        rules.add(fault.help("keep the one that signs, the next one, and those whose tokens have not ended"));
    }
    if !rules.sound_keys(&table, &["key", "keys"]) {
        return;
    }
    if operation.key.is_some() && !operation.keys.is_empty() {
        let fault = Fault::at(table.key("keys"), "`key` and `keys` both say what tokens are signed with");
        rules.add(fault.on_key().help("move the key to the first place of `keys`"));
    } else if operation.key.is_none() && operation.keys.is_empty() {
        let fault = Fault::at(table, format!("`[operation_tokens.{name}]` has no key to sign tokens with"));
        rules.add(fault.on_key().help("add `key = \"env:NAME\"`; `openssl rand -hex 32` makes one"));
    }
}

/// Each may be tried for a token that fits none.
const MAX_KEYS: usize = 8;

fn has_segment(rules: &mut Rules<'_>, place: &Place, route: &Route, segment: &str) {
    if !guard::named_segments(&route.path).any(|(_, known)| known == segment) {
        let message = format!("`{}` has no segment `{{{segment}}}`, which its operation token is for", route.path);
        rules.add(Fault::at(place.key("path"), message).help(format!("name it: \"/payments/{{{segment}}}/confirm\"")));
    }
}

/// The keys of one route.
pub(super) fn on_route(rules: &mut Rules<'_>, table: &Place, route: &Route) {
    let config = rules.config;
    for (key, name) in [("issues", &route.issues), ("requires", &route.requires)] {
        let Some(name) = name else { continue };
        routes::refer(rules, table.key(key), "operation_tokens", name, config.operation_tokens.keys());
    }
    if route.issues.is_some() && route.issues == route.requires {
        let fault = Fault::at(table.key("issues"), "who has used such a token would get the next one with the answer");
        rules.add(fault.help("let another route give it out"));
    }
}
