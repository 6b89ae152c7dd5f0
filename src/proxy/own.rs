//! What the gateway itself serves on the public listeners: the keys by which upstreams verify its assertions.

use bytes::Bytes;
use gapura_filters::{
    assertion::KEYS_PATH,
    contract::{Code, Refusal},
    target::canonical_path,
};
use http::{
    HeaderValue, Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use pingora::{http::ResponseHeader, protocols::http::ServerSession};

use super::{answer, context::Context, whole::Broken};

pub(crate) const KEY_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
/// The next key is published minutes before it signs.
pub(crate) const FRESH: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// True: the request was for the gateway itself, and is answered. No route can take this path where assertions are made.
pub(super) async fn serves(session: &mut ServerSession, context: &mut Context) -> Result<bool, Broken> {
    let head = session.req_header();
    // However it is spelled: a route would forward it in this form.
    if canonical_path(head.uri.path()).ok().as_deref() != Some(KEYS_PATH) {
        return Ok(false);
    }
    let Some(keys) = context.live.policy.assertions.as_ref().map(|assertions| Bytes::clone(assertions.keys())) else {
        return Ok(false);
    };
    let bodiless = head.method == Method::HEAD;
    if !bodiless && head.method != Method::GET {
        let refusal = Refusal::new(Code::MethodNotAllowed, "This path does not take this method.");
        return Err(refusal.header(ALLOW, HeaderValue::from_static("GET, HEAD")).into());
    }
    // A body that nobody asked for is not waited for.
    if !session.is_body_done() {
        session.set_keepalive(None);
    }
    let mut head = ResponseHeader::build(StatusCode::OK, Some(8))?;
    head.insert_header(CONTENT_TYPE, KEY_SET)?;
    head.insert_header(CACHE_CONTROL, FRESH)?;
    head.insert_header(CONTENT_LENGTH, keys.len())?;
    answer::finish(session, &mut head, context);
    answer::write_head(session, head, bodiless).await?;
    if !bodiless {
        session.write_response_body(keys, true).await?;
    }
    Ok(true)
}
