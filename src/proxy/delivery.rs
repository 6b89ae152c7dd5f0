//! `/.well-known/gapura/`: keys for clients, from the public listeners. Nothing below it reaches an upstream.
//!
//! Who asks for a session key names the request that it is for; the route of that request decides, by its whole chain, with
//! whom it talks, how often, and whom it has locked out.

use bytes::Bytes;
use gapura_filters::{
    contract::{Clock as _, Code, Refusal},
    delivery::{Asked, MAX_ASKED},
    target::canonical_path,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use pingora::{http::ResponseHeader, protocols::http::ServerSession};

use super::{
    admit, answer,
    context::Context,
    whole::{self, Broken},
};
use crate::wiring::Gateway;

const FOLDER: &str = "/.well-known/gapura/";
pub(crate) const KEYS: &str = "/.well-known/gapura/keys";
pub(crate) const SESSION_KEY: &str = "/.well-known/gapura/session-key";

/// A canonical path that is the gateway's own while `key_delivery` is on.
pub(crate) fn is_for(path: &str) -> bool {
    path.starts_with(FOLDER)
}

pub(super) async fn serve(gateway: &Gateway, session: &mut ServerSession, context: &mut Context) -> Result<(), Broken> {
    match context.target.path() {
        KEYS => key_set(session, context).await,
        SESSION_KEY => session_key(gateway, session, context).await,
        _ => Err(Refusal::new(Code::RouteNotFound, "No keys are given under this path.").into()),
    }
}

async fn key_set(session: &mut ServerSession, context: &mut Context) -> Result<(), Broken> {
    if !matches!(context.method, Method::GET | Method::HEAD) {
        return Err(only("GET, HEAD"));
    }
    // What a client sends along is nobody's to read; the next request must not begin within it.
    whole::read_body(session, 0, context.live.config.limits.body_timeout.get()).await?;
    let set = context.live.policy.public_keys.clone();
    let known = session.req_header().headers.get_all(IF_NONE_MATCH).iter().any(|value| names(value, &set.etag));
    let fields = [(ETAG, set.etag), (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"))];
    if known {
        return write(session, context, StatusCode::NOT_MODIFIED, fields, Bytes::new()).await;
    }
    write(session, context, StatusCode::OK, fields, set.body).await
}

/// RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*`.
fn names(value: &HeaderValue, etag: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

async fn session_key(gateway: &Gateway, session: &mut ServerSession, context: &mut Context) -> Result<(), Broken> {
    if context.method != Method::POST {
        return Err(only("POST"));
    }
    let (path, method) = asked_for(context.target.query().unwrap_or_default())?;
    let index = admit::find_route(&path, &method, context)?;
    context.route = Some(index);
    let live = std::sync::Arc::clone(&context.live);
    let route = live.policy.route(index);
    live.lanes.check(&route.name)?;
    let mut head = session.req_header().as_owned_parts();
    head.method = method;
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, TRANSFER_ENCODING, X_GAPURA_ENVELOPE] {
        head.headers.remove(name);
    }
    let no_route = || Refusal::new(Code::RouteNotFound, "No session keys are given for this path.");
    context.exchange.sent = Some((context.method.clone(), context.target.clone()));
    context.exchange.target = PathAndQuery::try_from(path.as_str()).map_err(|_| no_route())?;
    context.exchange.now = context.started;
    route.chain.on_request(&gateway.clock, &head, &mut context.exchange).await?;
    let body = whole::read_body(session, MAX_ASKED, live.config.limits.body_timeout.get()).await?;
    // It may have come long after the head.
    route.chain.check_leases()?;
    let asked = Asked::read(&body)?;
    let (Some(encryption), Some(principal)) = (&route.encryption, context.exchange.principal.clone()) else {
        return Err(no_route().into());
    };
    let given =
        encryption.give(&principal, context.exchange.tenures.until_ms(), gateway.clock.now())?.ok_or_else(no_route)?;
    let body = given.answer(&asked, context.exchange.secure)?;
    let fields = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    write(session, context, StatusCode::OK, fields, body).await
}

const X_GAPURA_ENVELOPE: HeaderName = HeaderName::from_static("x-gapura-envelope");

/// `path=…&method=…`: the canonical path, and the method (without one, POST).
pub(crate) fn asked_for(query: &str) -> Result<(String, Method), Refusal> {
    let malformed = |why: &'static str| {
        let detail = "The query must be path=/PATH&method=METHOD, of the request that the key is for.";
        Refusal::new(Code::RequestMalformed, detail).reason(why)
    };
    let (mut path, mut method) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| malformed("a parameter without a value"))?;
        let value = decoded(value).ok_or_else(|| malformed("a parameter that cannot be decoded"))?;
        let place = match name {
            "path" => &mut path,
            "method" => &mut method,
            _ => return Err(malformed("another parameter")),
        };
        if place.replace(value).is_some() {
            return Err(malformed("a parameter stands twice"));
        }
    }
    let path = path.ok_or_else(|| malformed("no path"))?;
    // Only the path counts; a query in it would be the upstream's.
    if path.contains(['?', '#']) {
        return Err(malformed("the path has a query"));
    }
    let path = canonical_path(&path).map_err(|why| malformed(why.0))?.into_owned();
    let method = method.as_deref().unwrap_or("POST").parse().map_err(|_| malformed("no method"))?;
    Ok((path, method))
}

/// One pass of percent decoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            (digit(bytes.next()?)? * 16 + digit(bytes.next()?)?) as u8
        } else {
            byte
        });
    }
    String::from_utf8(out).ok()
}

fn only(methods: &'static str) -> Broken {
    admit::not_allowed(HeaderValue::from_static(methods)).into()
}

async fn write<const N: usize>(
    session: &mut ServerSession,
    context: &mut Context,
    status: StatusCode,
    fields: [(HeaderName, HeaderValue); N],
    body: Bytes,
) -> Result<(), Broken> {
    let mut head = ResponseHeader::build(status, Some(N + 8))?;
    let mut all = HeaderMap::new();
    all.extend(fields);
    if status != StatusCode::NOT_MODIFIED {
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        all.insert(CONTENT_LENGTH, body.len().into());
    }
    for (name, value) in &all {
        head.insert_header(name.clone(), value.clone())?;
    }
    answer::finish(session, &mut head, context);
    let ends = context.method == Method::HEAD || body.is_empty();
    answer::write_head(session, head, ends).await?;
    if !ends {
        session.write_response_body(body, true).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_that_a_key_is_for_is_read_strictly() {
        let read = |query: &str| asked_for(query).ok().map(|(path, method)| (path, method.to_string()));
        assert_eq!(read("path=/payments/1&method=GET"), Some(("/payments/1".into(), "GET".into())));
        assert_eq!(read("path=%2Fpayments%2F1"), Some(("/payments/1".into(), "POST".into())));
        assert_eq!(read("path=/a/../b"), Some(("/b".into(), "POST".into())));
        for bad in [
            "",
            "method=GET",
            "path=",
            "path=payments",
            "path=/a&path=/b",
            "path=/a&x=1",
            "path=/%2",
            "path=/a&method=",
            "path=/%FF",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn etags_are_compared_in_lists() {
        let etag = HeaderValue::from_static("\"a\"");
        for (value, same) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(names(&HeaderValue::from_static(value), &etag), same, "{value}");
        }
    }
}
