//! What would leave it open which of a route's methods a credential is for.

use gapura_config::{
    fault::{Fault, Place},
    model::TokenSource,
};

use super::Method;

/// `place` is that of the route's `auth`.
pub(super) fn find(place: &Place, methods: &[Method]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if methods.is_empty() {
        faults.push(
            Fault::at(place.clone(), "no method is listed").help("list methods, or remove `auth` for a public route"),
        );
    }
    for (at, method) in methods.iter().enumerate() {
        for earlier in &methods[..at] {
            if let Some((message, help)) = between(method, earlier) {
                faults.push(Fault::at(place.index(at), message).help(help));
            }
        }
    }
    faults
}

fn between(method: &Method, earlier: &Method) -> Option<(String, &'static str)> {
    let (name, other) = (method.name(), earlier.name());
    match (method, earlier) {
        _ if name == other => Some((format!("`{name}` is listed twice"), "remove one")),
        (Method::Jwt(a), Method::Jwt(b))
            if a.source() == b.source() && a.issuer() == b.issuer() && a.shares_algorithm(b) =>
        {
            Some((
                format!("a token cannot choose between `{name}` and `{other}`: same issuer, same algorithm"),
                "give each its own `issuer`, or put both keys into one key set",
            ))
        }
        (Method::Mtls(_), Method::Mtls(_)) => Some((
            format!("a certificate cannot choose between `{name}` and `{other}`"),
            "put their `principals` into one table",
        )),
        (Method::Jwt(jwt), Method::ApiKeys(keys)) | (Method::ApiKeys(keys), Method::Jwt(jwt))
            if keys.is_bearer() && *jwt.source() == TokenSource::Header =>
        {
            Some((
                format!("`{name}` and `{other}` both read `Authorization: Bearer`"),
                "give the API keys another `scheme` or `header`",
            ))
        }
        _ => None,
    }
}
