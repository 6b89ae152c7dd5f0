//! HTTP/1 as bytes: what listeners and upstreams both need of it.

mod chunked;

pub(crate) use chunked::Chunks;
