//! What is asked of a provider, and what is believed of its answers.

use std::path::Path;

use bytes::Bytes;
use gapura_filters::{
    authentication::{KeySource, Location},
    json::{self, Json},
};
use http::Uri;

use super::Web;

/// Of one answer. Key sets have a few KiB.
const MAX_BYTES: u64 = 256 * 1024;
const MAX_REDIRECTS: usize = 3;

/// The text of the key set.
pub(super) async fn fetch(web: &impl Web, source: &KeySource) -> Result<Bytes, String> {
    let ca = source.ca.as_deref();
    match &source.location {
        Location::Set(address) => get(web, address, ca).await,
        Location::Issuer(issuer) => {
            // OpenID Connect Discovery 1.0, section 4.1: a slash at the end is removed first.
            let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            let metadata = get(web, &address, ca).await?;
            get(web, &key_set_of(issuer, &metadata)?, ca).await
        }
    }
}

/// Section 4.3: the `issuer` in the metadata must be the one asked, else one tenant of a provider could speak for another.
fn key_set_of(issuer: &str, metadata: &[u8]) -> Result<String, String> {
    let metadata = json::parse_object(metadata).map_err(|why| format!("the issuer's metadata: {why}"))?;
    if metadata.get("issuer").and_then(Json::as_str) != Some(issuer) {
        return Err("the metadata are those of another issuer".into());
    }
    let address = metadata.get("jwks_uri").and_then(Json::as_str);
    address.map(str::to_owned).ok_or_else(|| "the issuer's metadata have no `jwks_uri`".into())
}

async fn get(web: &impl Web, address: &str, ca: Option<&Path>) -> Result<Bytes, String> {
    let mut uri = https(address)?;
    for _ in 0..=MAX_REDIRECTS {
        let page = web.get(&uri, ca, MAX_BYTES).await?;
        match page.status.as_u16() {
            200 => return Ok(page.body),
            301 | 302 | 303 | 307 | 308 => uri = redirected(&uri, page.location.as_deref())?,
            status => return Err(format!("`{uri}` answers {status}")),
        }
    }
    Err(format!("`{address}` redirects more than {MAX_REDIRECTS} times"))
}

/// With a host and without a user; anything else is not asked.
fn https(address: &str) -> Result<Uri, String> {
    let uri = address.parse::<Uri>().ok();
    let fit = |uri: &Uri| {
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    };
    uri.filter(fit).ok_or_else(|| "a key set is fetched over https only".into())
}

/// To the same host and port: whoever can make a provider redirect must not choose whose keys are trusted.
fn redirected(from: &Uri, location: Option<&str>) -> Result<Uri, String> {
    let location = location.ok_or_else(|| format!("`{from}` redirects nowhere"))?;
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let to = if location.starts_with('/') && !location.starts_with("//") {
        https(&format!("https://{authority}{location}"))
    } else {
        https(location)
    };
    let to = to.map_err(|_| format!("`{from}` redirects to what is no https address"))?;
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    if host(&to) == host(from) && to.port_u16().unwrap_or(443) == from.port_u16().unwrap_or(443) {
        Ok(to)
    } else {
        Err(format!("`{from}` redirects to another host"))
    }
}
