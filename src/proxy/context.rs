//! What one exchange carries from its first byte to its last.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use gapura_filters::{
    authentication::Ended,
    contract::{Clock, Code, Exchange, Now},
    policy::Route,
};
use http::{HeaderValue, Method, uri::PathAndQuery};
use pingora::{http::RequestHeader, protocols::http::ServerSession};

use super::{
    forward::{self, Edits},
    in_flight::Place,
    listen::{self, Facts},
    problem::{self, RequestId},
};
use crate::wiring::{Gateway, Live};

pub(crate) struct Context {
    pub(super) gateway: Arc<Gateway>,
    /// Pinned: a reload in between changes nothing for this exchange.
    pub(super) live: Arc<Live>,
    pub(super) started: Now,
    pub(super) facts: Facts,
    pub(super) trusted: bool,
    pub(super) request_id: RequestId,
    pub(super) method: Method,
    pub(super) exchange: Exchange,
    /// None: no route takes it.
    pub(super) route: Option<usize>,
    /// Canonical, with the query.
    pub(super) target: PathAndQuery,
    pub(super) host: HeaderValue,
    /// The refusal that the client got, and why.
    pub(super) refused: Option<(Code, String)>,
    /// Why a socket or a stream of events was ended.
    pub(super) ended: Option<Ended>,
    /// Bytes of a streamed request body.
    pub(super) received: u64,
    /// The turn of a streamed exchange among the servers of its upstream, and how many of them it has tried.
    pub(super) turn: Option<usize>,
    pub(super) tried: usize,
    /// Interim responses to a streamed request.
    pub(super) interim: usize,
    /// Among those of its route, where their number is bounded.
    pub(super) place: Option<Place>,
    /// The response to a streamed request is a stream of events.
    pub(super) events: bool,
    /// When a streamed request went to its upstream.
    pub(super) sent: Option<Now>,
}

impl Context {
    /// Before anything of the request is known.
    pub(super) fn new(gateway: &Arc<Gateway>) -> Self {
        let now = gateway.clock.now();
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            gateway: Arc::clone(gateway),
            live: gateway.live(),
            started: now,
            facts: Facts::plain(SocketAddr::new(nobody, 0)),
            trusted: false,
            request_id: problem::request_id(),
            method: Method::GET,
            exchange: Exchange::new(now, nobody),
            route: None,
            target: PathAndQuery::from_static("/"),
            host: HeaderValue::from_static(""),
            refused: None,
            ended: None,
            received: 0,
            turn: None,
            tried: 0,
            interim: 0,
            place: None,
            events: false,
            sent: None,
        }
    }

    /// With the connection's facts, and what trusted proxies say.
    pub(super) fn begin(&mut self, session: &mut ServerSession) {
        let pause = Some(self.live.config.limits.body_timeout.get());
        // A tunnel is silent as long as its ends like; only the upstream's side bounds that.
        let tunnel = session.is_upgrade_req();
        session.set_read_timeout(pause.filter(|_| !tunnel));
        session.set_write_timeout(pause);
        let digest = session.digest().and_then(|digest| digest.proxy_digest.as_ref());
        if let Some(facts) = digest.and_then(|digest| listen::facts(digest)) {
            self.facts = facts.clone();
        }
        let head = session.req_header();
        self.method = head.method.clone();
        let proxies = &self.live.policy.trusted_proxies;
        let peer = self.facts.peer_ip();
        self.trusted = forward::is_trusted(peer, proxies);
        self.exchange.client_ip = forward::client_ip(peer, &head.headers, proxies);
        self.exchange.secure = self.facts.secure;
        // A connection may outlast those who vouched for its client.
        let shown = self.facts.shown.as_deref().zip(self.live.trust.as_deref());
        let vouched = shown.is_some_and(|(shown, trust)| shown.is_vouched_for(trust, self.started.unix_ms));
        self.exchange.certificate = self.facts.certificate.as_ref().filter(|_| vouched).cloned();
        if self.trusted
            && let Some(id) = head.headers.get(problem::X_REQUEST_ID).and_then(RequestId::of_proxy)
        {
            self.request_id = id;
        }
        self.exchange.request_id = self.request_id.value().clone();
    }

    /// The caller may not go on with what it has opened.
    pub(super) fn end(&mut self, kind: &str, ended: Ended) {
        self.gateway.services.metrics.streams_ended.with_label_values(&[kind, ended.label()]).inc();
        self.ended = Some(ended);
    }

    pub(super) fn route(&self) -> Option<&Route> {
        self.route.map(|index| self.live.policy.route(index))
    }

    /// Empty where no route takes the request.
    pub(super) fn route_name(&self) -> &str {
        self.route().map_or("", |route| &route.name)
    }

    /// Turns a received head into the one that goes to the upstream.
    pub(super) fn edit(&self, head: &mut RequestHeader) {
        let upstream = self.route().and_then(|route| self.live.upstreams.get(&route.upstream));
        let edits = Edits {
            facts: &self.facts,
            trusted: self.trusted,
            target: &self.target,
            // HTTP/1.0 may come without one; HTTP/1.1 must not go on without.
            host: upstream.filter(|_| self.host.is_empty()).map_or(&self.host, |upstream| &upstream.host),
            request_id: &self.request_id,
            principal: self.exchange.principal.as_deref(),
            assertion: self.exchange.assertion.as_ref(),
            assertions_in: self.live.policy.assertions.as_ref().map(|assertions| assertions.header()),
            withheld: self.route().map(|route| &route.withheld),
        };
        edits.apply(head);
    }
}
