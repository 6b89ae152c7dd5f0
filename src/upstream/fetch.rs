//! One request on a connection of its own, for what the gateway itself wants to know.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    model,
    units::{Address, Period},
};
use http::{HeaderValue, StatusCode, Uri, header};
use pingora::{connectors::TransportConnector, http::RequestHeader};

use super::{
    exchange::{self, Failure},
    server::Server,
};

/// What came back.
pub(crate) struct Fetched {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    /// None: it is larger than was asked for.
    pub(crate) body: Option<Bytes>,
}

/// A GET; `uri` is of https. The caller bounds the whole; `pause` bounds each step. The error is for the operator.
pub(crate) async fn get(
    connector: &TransportConnector,
    uri: &Uri,
    ca: Option<&Path>,
    pause: Duration,
    max: u64,
) -> Result<Fetched, String> {
    let head = request("GET", uri, 4).map_err(|why| unaskable(uri, &why))?;
    send(connector, uri, ca, (&head, b""), (pause, max)).await
}

/// A POST of a form, with a login; `uri` is of https, or of http.
pub(crate) async fn post(
    connector: &TransportConnector,
    uri: &Uri,
    ca: Option<&Path>,
    (authorization, form): (Option<&HeaderValue>, &[u8]),
    (pause, max): (Duration, u64),
) -> Result<Fetched, String> {
    let head = || {
        let mut head = request("POST", uri, 7)?;
        head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))?;
        head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(form.len()))?;
        if let Some(login) = authorization {
            head.insert_header(header::AUTHORIZATION, login.clone())?;
        }
        Ok(head)
    };
    let head = head().map_err(|why: Box<pingora::Error>| unaskable(uri, &why))?;
    send(connector, uri, ca, (&head, form), (pause, max)).await
}

fn unaskable(uri: &Uri, why: &pingora::Error) -> String {
    format!("`{uri}` cannot be asked: {}", why.etype().as_str())
}

async fn send(
    connector: &TransportConnector,
    uri: &Uri,
    ca: Option<&Path>,
    (head, body): (&RequestHeader, &[u8]),
    (pause, max): (Duration, u64),
) -> Result<Fetched, String> {
    let tls = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let address = Address::Tcp { host: host.clone(), port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) };
    let upstream = model::Upstream {
        servers: Vec::new(),
        connect_timeout: Period(pause),
        idle_timeout: Period(pause),
        tls,
        server_name: tls.then_some(host),
        // Read anew each time: a renewed bundle needs no reload.
        ca: ca.map(Path::to_owned),
        identity_assertion: false,
    };
    let server = Arc::new(Server::build(&address, &upstream)?);
    let stream = server.connect(connector).await?;
    let said = |failure: Failure| match failure {
        Failure::Unreachable(why) | Failure::Broken(why) => format!("{address}: {why}"),
        Failure::Timeout(why) => format!("{address}: {why}"),
    };
    let mut answer = exchange::on(stream, &server, head, body, pause).await.map_err(|why| said(why.into()))?;
    let location = answer.head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.head.status;
    // What stands in any other answer is for nobody.
    let body = if status == StatusCode::OK { answer.read_up_to(max).await.map_err(said)? } else { Some(Bytes::new()) };
    Ok(Fetched { status, location, body })
}

fn request(method: &str, uri: &Uri, fields: usize) -> pingora::Result<RequestHeader> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut head = RequestHeader::build(method, path.as_bytes(), Some(fields))?;
    head.insert_header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))?;
    head.insert_header(header::ACCEPT, HeaderValue::from_static("application/json"))?;
    head.insert_header(header::USER_AGENT, HeaderValue::from_static(concat!("gapura/", env!("CARGO_PKG_VERSION"))))?;
    head.insert_header(header::CONNECTION, HeaderValue::from_static("close"))?;
    Ok(head)
}
