//! An endpoint that knows a backend's keys: token introspection (RFC 7662).

use std::{future::Future, path::PathBuf};

use bytes::Bytes;
use gapura_config::model::KeyIntrospection;
use gapura_filters::authentication::form_encoded;
use http::{HeaderValue, StatusCode, Uri};

use super::{Silence, Source};

/// The port to it: one POST of a form, over TLS with its certificate verified, or in the clear within this host. The error is for the log.
pub(crate) trait Posts: Send + Sync + 'static {
    /// At most `max` bytes of body; None: it is larger.
    fn post(
        &self,
        to: &Destination,
        form: &[u8],
        max: u64,
    ) -> impl Future<Output = Result<(StatusCode, Option<Bytes>), String>> + Send;
}

/// Where a form goes, and as whom.
pub(crate) struct Destination {
    pub(crate) uri: Uri,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) authorization: Option<HeaderValue>,
}

pub(crate) struct Endpoint<P> {
    posts: P,
    /// None: the address is none, which the configuration was held to.
    destination: Option<Destination>,
}

/// An answer names one caller.
const MAX_BYTES: u64 = 64 * 1024;

impl<P: Posts> Endpoint<P> {
    pub(crate) fn new(posts: P, config: &KeyIntrospection, authorization: Option<HeaderValue>) -> Self {
        let destination = |uri| Destination { uri, ca: config.ca.clone(), authorization };
        Self { posts, destination: config.url.parse().ok().map(destination) }
    }
}

impl<P: Posts> Source for Endpoint<P> {
    async fn ask(&self, key: &str) -> Result<Vec<Vec<u8>>, Silence> {
        let to = self.destination.as_ref().ok_or_else(|| Silence::Outage("its address cannot be used".into()))?;
        let mut form = form_encoded(key.as_bytes());
        form.insert_str(0, "token=");
        let (status, body) = self.posts.post(to, form.as_bytes(), MAX_BYTES).await.map_err(Silence::Outage)?;
        match status {
            StatusCode::OK => match body {
                Some(body) => Ok(vec![body.to_vec()]),
                None => Err(Silence::Unreadable(format!("its answer is larger than {MAX_BYTES} bytes"))),
            },
            // It is this key that cannot be one: no outage, which a caller could feign.
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Ok(vec![br#"{"active":false}"#.to_vec()]),
            // It has too much to do, or what answers is a proxy before it.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Silence::Outage(format!("it answers {}", status.as_u16()))),
            // 500 is what an application says that stumbled over this key: were it an outage, whoever finds such a key could shut all
            // others out. A redirect would send the key elsewhere; 401 is about the gateway's own login; 403 may come from a filter
            // before the endpoint that dislikes what stands in the key.
            other => Err(Silence::Unreadable(format!("it answers {}", other.as_u16()))),
        }
    }
}
