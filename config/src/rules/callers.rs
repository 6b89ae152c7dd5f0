//! How callers prove who they are: tokens and API keys.

use std::{collections::HashMap, time::Duration};

use ipnet::IpNet;

use super::{Rules, at, foreign_keys};
use crate::{
    fault::{Fault, Place},
    model::{ApiKey, ApiKeys, Jwt, JwtAlgorithm, is_token},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    rules.names("jwt", &config.jwt);
    rules.names("api_keys", &config.api_keys);
    for (name, jwt) in &config.jwt {
        jwt_keys(rules, name, jwt);
        jwt_fetched(rules, name, jwt);
        jwt_claims(rules, name, jwt);
    }
    for (name, method) in &config.api_keys {
        api_keys(rules, name, method);
        foreign_keys::check(rules, name, method);
    }
}

/// The kind of key that an algorithm verifies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Hmac,
    Rsa,
    EllipticCurve,
    Edwards,
}

fn family(algorithm: JwtAlgorithm) -> Family {
    use JwtAlgorithm as A;
    match algorithm {
        A::HS256 | A::HS384 | A::HS512 => Family::Hmac,
        A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Family::Rsa,
        A::ES256 | A::ES384 => Family::EllipticCurve,
        A::EdDSA => Family::Edwards,
    }
}

const KEYS: [&str; 4] = ["secret", "public_key", "jwks", "discovery"];

fn jwt_keys(rules: &mut Rules<'_>, name: &str, jwt: &Jwt) {
    let table = at(&["jwt", name]);
    rules.repeated(&table.key("algorithms"), &jwt.algorithms);
    let given = [jwt.secret.is_some(), jwt.public_key.is_some(), jwt.jwks.is_some(), jwt.discovery];
    let present: Vec<&str> = KEYS.into_iter().zip(given).filter(|(_, given)| *given).map(|(key, _)| key).collect();
    match present.as_slice() {
        // A literal secret is refused elsewhere; here it counts as present, and a misspelt key is none of these.
        [] if rules.sound_keys(&table, &KEYS) => {
            let fault = Fault::at(table, format!("`[jwt.{name}]` has no key to verify tokens with")).on_key();
            rules.add(fault.help("add one of `secret`, `public_key`, `jwks` and `discovery`"));
        }
        [] => {}
        [one] => algorithms_for(rules, &table, one, jwt),
        [first, others @ ..] => {
            for other in others {
                let message = format!("`{first}` and `{other}` both say what tokens are verified with");
                rules.add(Fault::at(table.key(other), message).on_key().help("keep one of the two"));
            }
        }
    }
}

/// Discovery 1.0, section 2: an issuer is an https address without query and fragment.
fn jwt_fetched(rules: &mut Rules<'_>, name: &str, jwt: &Jwt) {
    let table = at(&["jwt", name]);
    const HELP: &str = "write `issuer = \"https://id.example.com\"`, or the key set itself in `jwks`";
    if jwt.discovery && rules.sound(&table.key("issuer")) {
        match &jwt.issuer {
            None => {
                let fault = Fault::at(table.key("discovery"), "discovery starts from the issuer, and there is none");
                rules.add(fault.on_key().help(HELP));
            }
            Some(issuer) if !is_https(issuer) => {
                let message = format!("{issuer:?} is not an address that discovery could start from");
                rules.add(Fault::at(table.key("issuer"), message).help(HELP));
            }
            Some(_) => {}
        }
    }
    if jwt.ca.is_some() && !jwt.fetches_keys() && rules.sound_keys(&table, &["jwks", "discovery"]) {
        let fault = Fault::at(table.key("ca"), "`ca` is for keys that are fetched, and these are not");
        rules.add(fault.on_key().help("remove it, or write `discovery = true` or an https address in `jwks`"));
    }
}

fn is_https(issuer: &str) -> bool {
    issuer.strip_prefix("https://").is_some_and(|rest| {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        !host.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\\\"<>^`{|}".contains(&b))
    })
}

/// RFC 8725, section 3.1: a verifier whose key fits several kinds of algorithm is open to confusion, above all where a
/// public key would serve as the secret of an HMAC.
fn algorithms_for(rules: &mut Rules<'_>, table: &Place, key: &str, jwt: &Jwt) {
    let list = table.key("algorithms");
    if !rules.sound(&list) {
        return;
    }
    let mut first = None;
    for (i, algorithm) in jwt.algorithms.iter().copied().enumerate() {
        let (place, family) = (list.index(i), family(algorithm));
        let first = *first.get_or_insert((algorithm, family));
        if (family == Family::Hmac) != (key == "secret") {
            let message = format!("`{algorithm:?}` is not verified with `{key}`");
            let help = match family {
                Family::Hmac => "HS256, HS384 and HS512 take `secret`; with public keys write RS256, ES256 or EdDSA",
                _ => "write HS256, HS384 or HS512, or put the public key in `public_key` or `jwks`",
            };
            rules.add(Fault::at(place, message).help(help));
        } else if key == "public_key" && family != first.1 {
            let message = format!("one public key cannot verify both `{:?}` and `{algorithm:?}`", first.0);
            rules.add(Fault::at(place, message).help("keep the algorithms of one key type, or use `jwks`"));
        } else if key == "public_key" && family == Family::EllipticCurve && algorithm != first.0 {
            let fault = Fault::at(place, "ES256 and ES384 are of different curves: one public key has one of them");
            rules.add(fault.help("keep the one that fits the key, or use `jwks`"));
        }
    }
}

fn jwt_claims(rules: &mut Rules<'_>, name: &str, jwt: &Jwt) {
    let table = at(&["jwt", name]);
    rules.not_empty(table.key("issuer"), jwt.issuer.as_deref().unwrap_or("-"));
    rules.repeated(&table.key("audience"), &jwt.audience);
    for (i, audience) in jwt.audience.iter().enumerate() {
        rules.not_empty(table.key("audience").index(i), audience);
    }
    rules.not_empty(table.key("typ"), jwt.typ.as_deref().unwrap_or("-"));
    for (claim, value) in &jwt.require {
        required(rules, &table.key("require").key(claim), claim, value);
    }
    let claims = &jwt.claims;
    let paths = [
        ("user_id", &claims.user_id),
        ("email", &claims.email),
        ("roles", &claims.roles),
        ("permissions", &claims.permissions),
    ];
    for (key, path) in paths {
        rules.not_empty(table.key("claims").key(key), path);
    }
    if jwt.leeway.get() > Duration::from_secs(300) {
        let message = format!("a token is accepted for `{}` after its end", jwt.leeway);
        rules.add(Fault::warning(table.key("leeway"), message).help("clocks seldom differ by more than \"30s\""));
    }
}

/// What has a key of its own is checked by that key's rules, not as plain text: an `aud` may be a list, a date is no text.
fn required(rules: &mut Rules<'_>, place: &Place, claim: &str, value: &str) {
    rules.not_empty(place.clone(), value);
    let help = match claim {
        "" => "write the name of the claim",
        "iss" => "write `issuer`",
        "aud" => "write `audience`",
        "exp" | "nbf" => "leave it out: `exp` must be there, and both are checked in every token",
        "iat" => "write `max_age`, which asks for it",
        _ => return,
    };
    let what =
        if claim.is_empty() { "this claim has no name".into() } else { format!("`{claim}` is not for `require`") };
    rules.add(Fault::at(place.clone(), what).on_key().help(help));
}

fn api_keys(rules: &mut Rules<'_>, name: &str, method: &ApiKeys) {
    let table = at(&["api_keys", name]);
    if let Some(scheme) = &method.scheme
        && !is_token(scheme)
    {
        // RFC 9110, section 11.1.
        let fault = Fault::at(table.key("scheme"), format!("{scheme:?} is not a scheme: a scheme is one word"));
        rules.add(fault.help("write \"ApiKey\", or leave `scheme` out where the whole header value is the key"));
    }
    if is_taken(&method.header) {
        let message = format!(
            "`{}` is a header that the gateway writes that frames the message, or that holds more than a key",
            method.header
        );
        rules.add(
            Fault::at(table.key("header"), message).help("write \"X-Api-Key\", or \"Authorization\" with a `scheme`"),
        );
    }
    if method.keys.is_empty() && method.database.is_none() && method.lookup.is_none() && method.introspection.is_none()
    {
        let fault = Fault::warning(table.key("keys"), "the list is empty: nobody can present a key");
        rules.add(fault.help("`gapura keys hash` prints the hash for an entry"));
    }
    unique(rules, &table.key("keys"), &method.keys);
    for (i, key) in method.keys.iter().enumerate() {
        let place = table.key("keys").index(i);
        label(rules, place.key("id"), &key.id);
        label(rules, place.key("user_id"), &key.user_id);
        if let Some(email) = &key.email {
            label(rules, place.key("email"), email);
        }
        let allow: Vec<IpNet> = key.allow.iter().flatten().map(IpNet::trunc).collect();
        rules.repeated(&place.key("allow"), &allow);
        for (list, items) in [("roles", &key.roles), ("permissions", &key.permissions)] {
            granted(rules, &place.key(list), items);
        }
    }
}

fn unique(rules: &mut Rules<'_>, list: &Place, keys: &[ApiKey]) {
    let mut ids: HashMap<&str, Place> = HashMap::new();
    let mut hashes: HashMap<&str, Place> = HashMap::new();
    for (i, key) in keys.iter().enumerate() {
        let [id, hash] = ["id", "hash"].map(|name| list.index(i).key(name));
        if let Some(first) = ids.get(key.id.as_str()) {
            let message = format!("there is a key with the id `{}` already{}", key.id, rules.line(first));
            rules.add(Fault::at(id, message).help("an id tells keys apart in logs: give each its own"));
        } else {
            ids.insert(&key.id, id);
        }
        if !rules.sound(&hash) {
            continue;
        }
        if let Some(first) = hashes.get(key.hash.as_str()) {
            let message = format!("another entry has this hash{}: whose key would it be?", rules.line(first));
            rules.add(Fault::at(hash, message).help("make a key for each caller"));
        } else {
            hashes.insert(&key.hash, hash);
        }
    }
}

/// Headers that never reach the API key check as the client sent them (contract, section 3), or that frame the message.
pub(super) fn is_taken(header: &str) -> bool {
    let header = header.to_ascii_lowercase();
    let owned = ["forwarded", "x-request-id", "x-auth-method", "x-gapura-envelope", "x-gapura-mac", "traceparent"];
    let framing =
        ["host", "connection", "content-length", "content-type", "transfer-encoding", "te", "trailer", "upgrade"];
    // They hold more than a key.
    let shared = ["cookie", "sec-websocket-protocol"];
    shared.contains(&header.as_str())
        || owned.contains(&header.as_str())
        || framing.contains(&header.as_str())
        || header.starts_with("x-forwarded-")
        || header.starts_with("x-user-")
}

/// A text that becomes a header value, a log field, a limiter's key.
pub(super) fn label(rules: &mut Rules<'_>, place: Place, text: &str) {
    rules.not_empty(place.clone(), text);
    if text.chars().any(char::is_control) {
        rules.add(Fault::at(place, "a control character cannot pass in a header").help("remove it"));
    }
}

/// Roles or permissions. They go to the upstream joined by `,`, so one with a comma would be read as two.
pub(super) fn granted(rules: &mut Rules<'_>, list: &Place, items: &[String]) {
    rules.repeated(list, items);
    for (i, item) in items.iter().enumerate() {
        label(rules, list.index(i), item);
        if item.contains(',') {
            let fault = Fault::at(list.index(i), format!("`{item}` has a comma, which separates entries in a header"));
            rules.add(fault.help("write one entry for each"));
        }
    }
}
