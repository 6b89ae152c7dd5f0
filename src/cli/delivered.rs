//! `gapura explain` of `/.well-known/gapura/`, which the gateway answers itself while `key_delivery` is on.

use std::fmt::Write as _;

use gapura_filters::{
    contract::Code,
    policy::{Policy, Route},
    router::Found,
};
use http::Method;
use serde_json::Value;

use super::{explain::answer, seal::now};
use crate::proxy::delivery::{KEYS, SESSION_KEY, asked_for};

/// What comes of a request for a canonical path below it.
pub(super) fn explain(policy: &Policy, method: &Method, path: &str, query: &str) -> String {
    match path {
        KEYS if matches!(*method, Method::GET | Method::HEAD) => {
            let set: Value = serde_json::from_slice(&policy.public_keys.body).unwrap_or_default();
            let kids: Vec<&str> =
                set["keys"].as_array().into_iter().flatten().filter_map(|k| k["kid"].as_str()).collect();
            let kids = if kids.is_empty() { "none: no entry takes one".to_owned() } else { kids.join(", ") };
            format!("{method} {path}\n  answered by the gateway: 200, the public keys ({kids})\n")
        }
        KEYS => answer(method, path, Code::MethodNotAllowed, "this path takes GET, HEAD"),
        SESSION_KEY if *method == Method::POST => session_key(policy, path, query),
        SESSION_KEY => answer(method, path, Code::MethodNotAllowed, "this path takes POST"),
        _ => answer(method, path, Code::RouteNotFound, "no keys are given under this path"),
    }
}

fn session_key(policy: &Policy, path: &str, query: &str) -> String {
    let refused = |code, why: &str| answer(&Method::POST, path, code, why);
    let Ok((asked, method)) = asked_for(query) else {
        return refused(
            Code::RequestMalformed,
            "the query must be path=/PATH&method=METHOD, of the request that the key is for",
        );
    };
    match policy.find(&asked, &method) {
        Found::Nothing => refused(Code::RouteNotFound, &format!("no route matches {asked}")),
        Found::OtherMethods(_) => refused(Code::MethodNotAllowed, &format!("{asked} does not take {method}")),
        Found::Route(index) => given(policy.route(index), (&method, &asked), path),
    }
}

fn given(route: &Route, (method, asked): (&Method, &str), path: &str) -> String {
    let gifts = route.encryption.as_ref().map_or(Vec::new(), |encryption| encryption.gives(now()));
    if gifts.is_empty() {
        let why = format!("route {} has no key to give", route.name);
        return answer(&Method::POST, path, Code::RouteNotFound, &why);
    }
    let mut text = String::new();
    let gifts = gifts.join(" and ");
    // Writing into a String does not fail.
    let _ = writeln!(text, "POST {path}\n  answered by the gateway: 200, {gifts}, to callers whom this route lets in:");
    let _ = writeln!(text, "  route            {} ({method} {asked}); its filters up to the body decide", route.name);
    let _ =
        writeln!(text, "  without TLS      only sealed to a `public_key` of the request, else 403 PERMISSION_DENIED");
    text
}
