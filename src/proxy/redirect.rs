//! Plain listeners that serve nothing themselves: 308 to the same target over https.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gapura_filters::contract::{Code, Refusal};
use http::{HeaderValue, Response, StatusCode, header};
use pingora::{apps::http_app::ServeHttp, protocols::http::ServerSession};

use super::{
    access, listen,
    problem::{self, RequestId},
};
use crate::wiring::Gateway;

pub(crate) struct Redirect {
    pub(crate) ports: Ports,
    pub(crate) gateway: Arc<Gateway>,
}

/// Where the https listener is, seen from a plain one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The port of this listener.
    pub(crate) from: u16,
    /// The port of the first https listener.
    pub(crate) to: u16,
}

#[async_trait]
impl ServeHttp for Redirect {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // A body has nowhere to go: what follows it would be another connection's business.
        if !session.is_body_done() || session.is_upgrade_req() {
            session.set_keepalive(None);
        }
        let head = session.req_header();
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let target = head.uri.path_and_query().map(|target| target.as_str());
        // `OPTIONS *` is about the server, which is elsewhere.
        let target = target.filter(|target| target.starts_with('/')).unwrap_or("/");
        let request_id = problem::request_id();
        let location = host.and_then(|host| HeaderValue::try_from(self.ports.location(host, target)).ok());
        let mut response = match location {
            Some(location) => {
                let mut response = Response::new(Vec::new());
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                response.headers_mut().insert(header::LOCATION, location);
                response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
                response
            }
            None => {
                session.set_keepalive(None);
                nameless(&request_id)
            }
        };
        self.note(session, &request_id, &response);
        response.headers_mut().insert(problem::X_REQUEST_ID, request_id.value().clone());
        response
    }
}

impl Redirect {
    fn note(&self, session: &ServerSession, request_id: &RequestId, response: &Response<Vec<u8>>) {
        let live = self.gateway.live();
        let head = session.req_header();
        live.policy.unrouted.count(&head.method, response.status());
        let refused = response.status().is_client_error();
        if refused {
            live.metrics.refused(Code::RequestMalformed);
        }
        let facts = session.digest().and_then(|digest| digest.proxy_digest.as_deref()).and_then(listen::facts);
        if let (true, Some(facts)) = (live.access_log, facts) {
            let line = access::Line {
                id: request_id.as_str(),
                client: facts.peer_ip(),
                method: head.method.as_str(),
                path: head.uri.path(),
                route: "-",
                status: response.status().as_u16(),
                taken: Duration::ZERO,
                bytes: response.body().len(),
                user: "-",
                code: if refused { Code::RequestMalformed.name() } else { "-" },
                reason: if refused { "no Host" } else { "-" },
            };
            line.write();
        }
    }
}

impl Ports {
    /// A client that names a port reached this listener as it is, and will reach the other as it is. One that names none did
    /// so on port 80: where that is not our own, ports are mapped in front of us, and the https one will be 443.
    fn location(&self, host: &str, target: &str) -> String {
        let (name, named) = match host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, true),
            _ => (host, false),
        };
        let port = if self.to == 443 || (!named && self.from != 80) { String::new() } else { format!(":{}", self.to) };
        format!("https://{name}{port}{target}")
    }
}

fn nameless(request_id: &RequestId) -> Response<Vec<u8>> {
    let refusal = Refusal::new(Code::RequestMalformed, "A request without a Host cannot be sent on to https.");
    let body = refusal.body(request_id.as_str());
    let mut response = Response::new(Vec::new());
    *response.status_mut() = refusal.code.status();
    problem::describe(response.headers_mut(), &refusal, request_id, body.len());
    *response.body_mut() = body;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_one_that_the_client_will_reach() {
        let from = |from, to, host: &str| Ports { from, to }.location(host, "/a?b");
        assert_eq!(from(80, 443, "x.example"), "https://x.example/a?b");
        assert_eq!(from(80, 8443, "x.example"), "https://x.example:8443/a?b");
        assert_eq!(from(8080, 8443, "x.example:8080"), "https://x.example:8443/a?b");
        assert_eq!(from(8080, 8443, "x.example"), "https://x.example/a?b");
        assert_eq!(from(8080, 8443, "[::1]:8080"), "https://[::1]:8443/a?b");
        assert_eq!(from(8080, 8443, "[::1]"), "https://[::1]/a?b");
    }
}
