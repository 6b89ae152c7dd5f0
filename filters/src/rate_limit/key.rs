//! Whose requests a rule counts together.

use std::net::{IpAddr, Ipv6Addr};

use gapura_config::model::{LimitBy, LimitKey};
use http::request;

use crate::contract::{Exchange, Stage};

/// What of a header value distinguishes keys. A longer one shares a counter with those that begin alike: hashing 32 KiB of it
/// for each request would cost more than the request is worth.
const MAX_HEADER: usize = 1024;

/// Whether the number of a rule's counters is bounded by the configuration, or by how many clients there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// `global`, `route`, and the one that all requests share which lack the value.
    Rule,
    Client,
}

/// Rules by what a request says of itself stand before authentication, rules by who it is after it; a combination is known
/// when its last part is.
pub(super) fn stage(by: &LimitBy) -> Stage {
    let stages = by.keys().iter().map(|key| match key {
        LimitKey::ClientIp | LimitKey::Route | LimitKey::Global | LimitKey::Header(_) => Stage::ClientLimits,
        LimitKey::User | LimitKey::ApiKey => Stage::PrincipalLimits,
    });
    stages.max().unwrap_or(Stage::ClientLimits)
}

/// Writes the key's bytes, piece by piece. Of a combination each part has its length before it: else a client could choose a
/// header so that, with what follows it, it reads as someone else's.
pub(super) fn write(
    by: &LimitBy,
    route: &str,
    head: &request::Parts,
    exchange: &Exchange,
    mut out: impl FnMut(&[u8]),
) -> Owner {
    let keys = match by.keys() {
        [key] => return write_part(key, route, head, exchange, out),
        keys => keys,
    };
    // No single key begins with it.
    out(b"c");
    let mut owner = Owner::Rule;
    for key in keys {
        let mut length = 0_u64;
        write_part(key, route, head, exchange, |piece| length += piece.len() as u64);
        out(&length.to_le_bytes());
        if write_part(key, route, head, exchange, &mut out) == Owner::Client {
            owner = Owner::Client;
        }
    }
    owner
}

/// The first byte tells present from absent, so that no value can pose as the absent one.
fn write_part(
    key: &LimitKey,
    route: &str,
    head: &request::Parts,
    exchange: &Exchange,
    mut out: impl FnMut(&[u8]),
) -> Owner {
    let principal = exchange.principal.as_deref();
    match key {
        LimitKey::Global => out(b"g"),
        LimitKey::Route => {
            out(b"r");
            out(route.as_bytes());
        }
        LimitKey::ClientIp => {
            // In one piece: a hash takes longer over two.
            match exchange.client_ip.to_canonical() {
                IpAddr::V4(ip) => {
                    let [a, b, c, d] = ip.octets();
                    out(&[b'v', a, b, c, d]);
                }
                // A subscriber has a /64 as a rule, and every address in it.
                IpAddr::V6(ip) => {
                    let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                    out(&[b'v', a, b, c, d, e, f, g, h]);
                }
            }
            return Owner::Client;
        }
        LimitKey::User => {
            let Some(principal) = principal else { return absent(out) };
            out(b"v");
            out(principal.user_id.as_str().as_bytes());
            return Owner::Client;
        }
        LimitKey::ApiKey => {
            let Some((principal, id)) = principal.and_then(|p| Some((p, p.api_key.as_deref()?))) else {
                return absent(out);
            };
            // Ids are unique within one `[api_keys.NAME]` only.
            out(b"v");
            out(principal.method.as_bytes());
            out(b"\0");
            out(id.as_bytes());
            return Owner::Client;
        }
        LimitKey::Header(name) => {
            let mut values = head.headers.get_all(name.as_str()).iter().peekable();
            if values.peek().is_none() {
                return absent(out);
            }
            out(b"v");
            let mut left = MAX_HEADER;
            // RFC 9110, section 5.3: lines of one name are one list, whichever way they are written.
            for (index, value) in values.enumerate() {
                let pieces = [if index == 0 { b"" as &[u8] } else { b", " }, value.as_bytes()];
                for piece in pieces {
                    let piece = &piece[..piece.len().min(left)];
                    left -= piece.len();
                    out(piece);
                }
            }
            return Owner::Client;
        }
    }
    Owner::Rule
}

/// Never "unlimited": all who lack the value share one counter.
fn absent(mut out: impl FnMut(&[u8])) -> Owner {
    out(b"a");
    Owner::Rule
}

/// The network that a key shares a counter with where it cannot have its own: IPv4 /24, IPv6 /48.
pub(super) fn network(client: IpAddr) -> ([u8; 6], usize) {
    match client.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            ([a, b, c, 0, 0, 0], 3)
        }
        IpAddr::V6(ip) => (first_48(ip), 6),
    }
}

fn first_48(ip: Ipv6Addr) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = ip.octets();
    [a, b, c, d, e, f]
}
