//! The access log: one line per request, `key=value`.

use std::{net::IpAddr, time::Duration};

/// No query in the path: it may hold what its sender thought private. No user but the id that the operator set.
pub(super) struct Line<'a> {
    pub(super) id: &'a str,
    pub(super) client: IpAddr,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) route: &'a str,
    pub(super) status: u16,
    pub(super) taken: Duration,
    /// Of the response body.
    pub(super) bytes: usize,
    pub(super) user: &'a str,
    /// Of a refusal.
    pub(super) code: &'a str,
    pub(super) reason: &'a str,
}

impl Line<'_> {
    pub(super) fn write(&self) {
        log::info!(
            target: "gapura::access",
            "id={} client={} method={} path={:?} route={} status={} ms={:.3} bytes={} user={:?} code={} reason={:?}",
            self.id,
            self.client,
            self.method,
            self.path,
            self.route,
            self.status,
            self.taken.as_secs_f64() * 1000.0,
            self.bytes,
            self.user,
            self.code,
            self.reason,
        );
    }
}
