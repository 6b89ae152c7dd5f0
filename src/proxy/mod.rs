//! The path of an exchange: Pingora's hooks, one file per moment.
//!
//! Three ways lead to an upstream. *Whole* ([`whole`]): the request is read first, then the gateway itself talks to the
//! upstream, on its own pooled connections; so go requests with a small body or none, WebSockets, and all whose bodies a filter
//! must see. *Streamed* ([`hooks`]): Pingora's own flow, for bodies that are large or of unknown length. *Sealed* ([`sealed`]): the gateway
//! drives both directions itself, record by record.

mod access;
mod admit;
mod answer;
mod coding;
mod context;
pub(crate) mod delivery;
mod forward;
mod frames;
mod front;
mod hooks;
mod in_flight;
mod lasting;
pub(crate) mod listen;
mod load;
pub(crate) mod own;
pub(crate) mod problem;
mod redirect;
mod reply;
mod sealed;
mod trace;
mod tunnel;
mod whole;

pub(crate) use self::{
    front::Front,
    hooks::Proxy,
    in_flight::Lanes,
    lasting::{Changes, watch},
    redirect::{Ports, Redirect},
};

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use std::net::IpAddr;

    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use ipnet::IpNet;

    pub fn client_ip(peer: IpAddr, fields: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
        super::forward::client_ip(peer, fields, proxies)
    }
    pub fn asked_for(query: &str) -> Option<(String, Method)> {
        super::delivery::asked_for(query).ok()
    }
    pub fn decode(fields: &HeaderMap, body: Bytes, max: u64) -> Result<Bytes, String> {
        super::coding::decode(fields, body, max)
    }
}
