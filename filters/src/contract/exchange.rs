//! One request and its response, as filters see it: facts that one filter records and a later one, or the adapter, reads.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};

use crate::{
    authentication::Tenures,
    contract::{ClientCertificate, Principal},
    encryption::Sealing,
    operation_tokens::Unspent,
    rate_limit::Charges,
};

/// The present, handed in by the adapter: filters never ask a clock themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since the process started, or since the one whose counters it goes on with. Never goes back.
    pub monotonic: Duration,
    /// Milliseconds since 1970-01-01T00:00:00Z, as the wall clock has it.
    pub unix_ms: u64,
}

/// The port of the clock.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
}

/// Where the client takes itself to be: what it would write before the path. Of a trusted proxy, what that says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub https: bool,
    /// Host and port, as received. Empty where the request has none.
    pub authority: HeaderValue,
}

/// What is known of an exchange. The adapter makes one per request; it lives until the response is complete.
#[derive(Debug)]
pub struct Exchange {
    pub now: Now,
    /// The caller's address, past the trusted proxies. IPv4-mapped addresses are folded to IPv4.
    pub client_ip: IpAddr,
    /// The canonical target: what was matched, and what is forwarded.
    pub target: PathAndQuery,
    /// What the client called this host: `Host`, or `:authority` of HTTP/2, as received. Empty where it said nothing.
    pub authority: HeaderValue,
    /// Method and target as the client sent them, where filters judge another request than that: whoever asks for a session key says
    /// for which request. A proof of possession is for what was sent.
    pub sent: Option<(Method, PathAndQuery)>,
    /// The client spoke TLS to the gateway.
    pub secure: bool,
    pub origin: Origin,
    /// As upstream, client and log have it.
    pub request_id: HeaderValue,
    /// Of the connection, where the client showed one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Recorded by `authentication`; nothing else sets it.
    pub principal: Option<Arc<Principal>>,
    /// Recorded with it: how long the caller may go on with what this request opens.
    pub tenures: Tenures,
    /// Recorded by `authentication`: what the client should put into its next proof.
    pub dpop_nonce: Option<HeaderValue>,
    /// Recorded by `rate_limit`: what was charged, and the tightest rule for the `RateLimit` fields.
    pub charges: Charges,
    /// Recorded by `operation_tokens`: the token of the request, until it is used up.
    pub unspent: Option<Unspent>,
    /// Recorded by `operation_tokens`: the response is looked at, so it comes whole and is asked for without coding.
    pub reads_response: bool,
    /// Recorded by `assertion`: a field for the upstream.
    pub assertion: Option<(HeaderName, HeaderValue)>,
    /// The response is the gateway's own: no upstream has said anything.
    pub refused: bool,
    /// Recorded by `encryption`: how the response is to be sealed, if it is.
    pub sealing: Option<Sealing>,
}

impl Exchange {
    pub fn new(now: Now, client_ip: IpAddr) -> Self {
        Self {
            now,
            client_ip: client_ip.to_canonical(),
            target: PathAndQuery::from_static("/"),
            authority: HeaderValue::from_static(""),
            sent: None,
            secure: false,
            origin: Origin { https: false, authority: HeaderValue::from_static("") },
            request_id: HeaderValue::from_static(""),
            certificate: None,
            principal: None,
            tenures: Tenures::default(),
            dpop_nonce: None,
            charges: Charges::default(),
            unspent: None,
            reads_response: false,
            assertion: None,
            refused: false,
            sealing: None,
        }
    }
}
