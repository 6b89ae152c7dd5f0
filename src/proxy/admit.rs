//! A request head on its way in: canonical target, route, filters. A refusal here has reached no upstream.

use std::borrow::Cow;

use gapura_config::model::Limits;
use gapura_filters::{
    contract::{Code, Refusal},
    router::Found,
    target::{canonical_path, check_query},
};
use http::{
    HeaderName, HeaderValue, Method, Version,
    header::{self, ALLOW, CONTENT_LENGTH, HOST},
    uri::PathAndQuery,
};
use pingora::{http::RequestHeader, protocols::http::ServerSession};

use super::{
    context::Context,
    delivery, forward,
    listen::{PASSABLE, is_authority},
};
use crate::wiring::Gateway;

/// How an admitted request goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Read whole, at most so many bytes; `seen` by filters.
    Whole {
        max_body: u64,
        seen: bool,
    },
    Streamed,
    /// Opened and sealed record by record.
    Sealed,
    /// The gateway itself answers: it is asked for keys.
    Keys,
}

/// A body up to this is read before its request goes on: a failed connection can then be replaced, and a small request
/// costs the upstream one read.
pub(super) const SMALL: u64 = 64 * 1024;

pub(super) async fn admit(
    gateway: &Gateway,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<Way, Refusal> {
    let path = canonical_target(session.req_header(), context)?;
    if context.live.config.server.key_delivery && delivery::is_for(&path) {
        return Ok(Way::Keys);
    }
    context.route = Some(find_route(&path, &context.method, context)?);
    let live = std::sync::Arc::clone(&context.live);
    let route = live.policy.route(context.route.ok_or_else(lost)?);
    live.lanes.check(&route.name)?;
    // A cheap clock read: the time since `started` belongs to no stage.
    context.exchange.now = context.started;
    route.chain.on_request(&gateway.clock, session.req_header(), &mut context.exchange).await?;
    let length = declared_length(session.req_header())?;
    if length.is_some_and(|length| length > route.max_body) {
        return Err(too_large(route.max_body));
    }
    if route.encryption.as_ref().is_some_and(|entry| entry.streams()) {
        return Ok(Way::Sealed);
    }
    let seen = route.chain.needs_body();
    if seen {
        return Ok(Way::Whole { max_body: route.max_body, seen });
    }
    match length {
        Some(length) if length <= SMALL => Ok(Way::Whole { max_body: route.max_body, seen }),
        None if session.is_body_empty() => Ok(Way::Whole { max_body: 0, seen }),
        _ => Ok(Way::Streamed),
    }
}

/// The canonical path, and in the context all that a target tells.
fn canonical_target(head: &RequestHeader, context: &mut Context) -> Result<String, Refusal> {
    if head.version == Version::HTTP_2 {
        check_size(head, &context.live.config.limits)?;
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(not_allowed(HeaderValue::from_static(PASSABLE)));
    }
    // As the gate has it for HTTP/1.
    if head.method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Refusal::new(Code::RequestMalformed, "The method of the request is not one."));
    }
    context.host = host(head)?;
    context.exchange.authority = context.host.clone();
    context.exchange.origin = forward::origin(head, &context.host, context.trusted, context.facts.secure);
    let uri = &head.uri;
    let given = uri.path();
    if given == "*" {
        return Err(no_route());
    }
    let ambiguous = |why: gapura_filters::target::Ambiguous| {
        Refusal::new(Code::RequestMalformed, "The target of the request is ambiguous.").reason(why.0)
    };
    let path = canonical_path(given).map_err(ambiguous)?;
    if let Some(query) = uri.query() {
        check_query(query).map_err(ambiguous)?;
    }
    context.target = match (&path, uri.query(), uri.path_and_query()) {
        (Cow::Borrowed(_), _, Some(same)) => same.clone(),
        (path, None, _) => PathAndQuery::try_from(path.as_ref()).map_err(|_| no_route())?,
        (path, Some(query), _) => PathAndQuery::try_from(format!("{path}?{query}")).map_err(|_| no_route())?,
    };
    context.exchange.target = context.target.clone();
    Ok(path.into_owned())
}

/// The route of a canonical path.
pub(super) fn find_route(path: &str, method: &Method, context: &Context) -> Result<usize, Refusal> {
    match context.live.policy.find(path, method) {
        Found::Route(index) => Ok(index),
        Found::OtherMethods(methods) => {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let allow = HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(PASSABLE));
            Err(not_allowed(allow))
        }
        Found::Nothing => Err(no_route()),
    }
}

/// The bounds of a head, which the gate holds HTTP/1 to. An entry counts as RFC 9113, section 6.5.2, counts it.
fn check_size(head: &RequestHeader, limits: &Limits) -> Result<(), Refusal> {
    let entry = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
    let bytes: usize = head.headers.iter().map(entry).sum();
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if head.headers.len() > limits.max_headers || (bytes + target) as u64 > limits.max_head.bytes() {
        let detail = "The request head is larger than the gateway accepts.";
        return Err(Refusal::new(Code::HeadTooLarge, detail));
    }
    Ok(())
}

/// `Host`, or what HTTP/2 has in its place; where it has both they are one (RFC 9113, section 8.3.1).
fn host(head: &RequestHeader) -> Result<HeaderValue, Refusal> {
    let mut values = head.headers.get_all(HOST).iter();
    let (host, more) = (values.next(), values.next());
    let unfit = || Refusal::new(Code::RequestMalformed, "The request does not say clearly which host it is for.");
    if more.is_some() || host.is_some_and(|host| !is_authority(host.as_bytes())) {
        return Err(unfit());
    }
    if head.version != Version::HTTP_2 {
        // Without one it is HTTP/1.0, which the gate lets pass; the upstream gets its own name.
        return Ok(host.cloned().unwrap_or(HeaderValue::from_static("")));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    match (authority, host) {
        (Some(authority), _) if !is_authority(authority.as_bytes()) => Err(unfit()),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => Err(unfit()),
        (Some(authority), _) => HeaderValue::from_str(authority).map_err(|_| unfit()),
        (None, Some(host)) => Ok(host.clone()),
        (None, None) => Err(unfit()),
    }
}

/// The gate has checked it for HTTP/1; HTTP/2 comes here first.
fn declared_length(head: &RequestHeader) -> Result<Option<u64>, Refusal> {
    let mut values = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|digits| digits.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(Refusal::new(Code::RequestMalformed, "The Content-Length of the request is not a number.")),
    }
}

/// The client waits for leave to send its body.
pub(super) fn expects_continue(head: &RequestHeader) -> bool {
    head.version == Version::HTTP_11
        && head.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

pub(super) fn too_large(max: u64) -> Refusal {
    Refusal::new(Code::BodyTooLarge, format!("A request body on this route may have {max} bytes."))
}

pub(super) fn not_allowed(allow: HeaderValue) -> Refusal {
    Refusal::new(Code::MethodNotAllowed, "This path does not take this method.").header(ALLOW, allow)
}

fn no_route() -> Refusal {
    Refusal::new(Code::RouteNotFound, "No route of the gateway matches this path.")
}

fn lost() -> Refusal {
    Refusal::new(Code::Internal, "The request cannot be served.").reason("admitted without a route")
}
