//! Pingora's hooks: the *streamed* way. Its first hook is [`front`]'s, and may find that the request need not stream at all.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use gapura_filters::contract::{Clock, Code, Refusal};
use http::{StatusCode, Version, header};
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    proxy::{FailToProxy, ProxyHttp, Session},
    upstreams::peer::HttpPeer,
};

use super::{
    admit, answer,
    context::Context,
    front::{self, Next},
    whole::{self, Broken},
};
use crate::{
    upstream::{MAX_INTERIM, check_framing},
    wiring::Gateway,
};

pub(crate) struct Proxy {
    pub(crate) gateway: Arc<Gateway>,
}

/// Marks an error as one whose refusal is already noted.
const OVERRUN: ErrorType = ErrorType::Custom("the request body overruns max_body");

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(&self.gateway)
    }

    /// The gateway's own modules are its filters; Pingora's compression stays out of the path.
    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {}

    /// True: the exchange is over.
    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        match front::first(&self.gateway, session.as_downstream_mut(), context).await {
            Ok(Next::Nothing) => Ok(true),
            Ok(Next::Stream) => {
                // What passes is 100, to a client that waits for it.
                session.as_downstream_mut().set_ignore_info_resp(true);
                Ok(false)
            }
            // Whoever asks for one is small, and never comes here.
            Ok(Next::Tunnel(_)) => Err(cut(session)),
            Err(Broken::Refused(refusal)) => {
                answer::refuse(session.as_downstream_mut(), context, refusal).await?;
                Ok(true)
            }
            Err(Broken::Cut) => Err(cut(session)),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        let live = Arc::clone(&context.live);
        let route = context.route.map(|index| live.policy.route(index));
        let upstream = route.and_then(|route| live.upstreams.get(&route.upstream));
        let (Some(upstream), Some(route)) = (upstream, route) else {
            return Err(Error::new(ErrorType::InternalError));
        };
        let turn = *context.turn.get_or_insert_with(|| upstream.take_turn());
        let server = upstream.server(turn, context.tried).ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        let peers = server.peers().await.map_err(|why| Error::explain(ErrorType::ConnectNoRoute, why))?;
        let mut peer = peers.into_iter().next().ok_or_else(|| Error::new(ErrorType::ConnectNoRoute))?;
        peer.options.read_timeout = Some(route.timeout);
        peer.options.write_timeout = Some(route.timeout);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        head: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        let framing = head.headers.get(header::TRANSFER_ENCODING).cloned();
        context.edit(head);
        if let Some(framing) = framing {
            head.insert_header(header::TRANSFER_ENCODING, framing)?;
        }
        context.sent = Some(self.gateway.clock.now());
        Ok(())
    }

    /// A body of unknown length that overruns the limit ends the request to the upstream before it completes.
    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        context: &mut Context,
    ) -> Result<()> {
        // Pingora would write an empty last piece as the chunk that ends a body, and then end it.
        if end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        context.received += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let max = context.route().map_or(0, |route| route.max_body);
        if context.received > max { Err(Error::new_down(OVERRUN)) } else { Ok(()) }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if let Some(sent) = context.sent.take()
            && let Some(upstream) = context.route().and_then(|route| context.live.upstreams.get(&route.upstream))
        {
            upstream.seconds.observe((self.gateway.clock.now().monotonic - sent.monotonic).as_secs_f64());
        }
        // Nobody asked for it: tunnels go the other way.
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::new_up(ErrorType::InvalidHTTPHeader));
        }
        if head.status.is_informational() {
            context.interim += 1;
            let one_too_many = context.interim > MAX_INTERIM;
            return if one_too_many { Err(Error::new_up(ErrorType::InvalidHTTPHeader)) } else { Ok(()) };
        }
        check_framing(head, &context.method).map_err(|why| Error::explain(ErrorType::InvalidHTTPHeader, why))?;
        head.set_version(Version::HTTP_11);
        let framing = head.headers.get(header::TRANSFER_ENCODING).cloned();
        answer::drop_hop_by_hop(head);
        if let Some(framing) = framing.filter(|_| !session.is_http2()) {
            head.insert_header(header::TRANSFER_ENCODING, framing)?;
        }
        answer::drop_length(head);
        answer::finish(session.as_downstream_mut(), head, context);
        // A download that has begun may end; events without an end are a socket.
        context.events = whole::is_events(head);
        Ok(())
    }

    /// Nothing of a stream of events passes once its caller may not go on. Pingora wakes nobody meanwhile: a silent one falls with
    /// its next event, or with the timeout of its route.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        _end: bool,
        context: &mut Context,
    ) -> Result<Option<Duration>> {
        if !context.events || context.ended.is_some() {
            return Ok(None);
        }
        match context.exchange.tenures.ended(self.gateway.clock.now().unix_ms) {
            Some(why) => {
                context.end("events", why);
                Err(Error::new_down(ErrorType::ConnectionClosed))
            }
            None => Ok(None),
        }
    }

    /// Nothing was sent: the next server can take it.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        context.tried += 1;
        let upstream = context.route().and_then(|route| context.live.upstreams.get(&route.upstream));
        error.set_retry(upstream.is_some_and(|upstream| context.tried < upstream.len()));
        error
    }

    /// A streamed request is repeated only where it is idempotent and none of its body is gone (RFC 9110, section 9.2.2).
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        context: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error;
        let again = client_reused && context.received == 0 && context.method.is_idempotent();
        if !(again && session.response_written().is_none() && error.esource() == &ErrorSource::Upstream) {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let begun = session.response_written().is_some();
        session.set_keepalive(None);
        if context.refused.is_none()
            && let Some(refusal) = refusal(error, context, session.is_http2())
        {
            if answer::refuse(session.as_downstream_mut(), context, refusal).await.is_err() {
                log::debug!("{}: the client left before its refusal", context.request_id);
            } else if !begun && !session.is_http2() {
                // Pingora would drop the connection with what the client still sends, whose reset outruns the refusal.
                session.shutdown().await;
            }
        }
        let code = context.refused.as_ref().map_or(0, |(code, _)| code.status().as_u16());
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    /// Refusals are logged where they are made.
    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &Error) -> bool {
        true
    }

    /// Always, after everything else.
    async fn logging(&self, session: &mut Session, _error: Option<&Error>, context: &mut Context) {
        let status = session.response_written().map(|head| head.status);
        front::complete(&self.gateway, status, session.body_bytes_sent(), context).await;
        answer::linger(session.as_downstream_mut(), context).await;
    }
}

/// The client is gone, or its response broke off: nothing more can be said.
fn cut(session: &mut Session) -> Box<Error> {
    session.set_keepalive(None);
    Error::new_down(ErrorType::ConnectionClosed)
}

/// What a failed streamed exchange is to its client; None where that is gone.
fn refusal(error: &Error, context: &Context, http2: bool) -> Option<Refusal> {
    if *error.etype() == OVERRUN {
        return Some(admit::too_large(context.route().map_or(0, |route| route.max_body)));
    }
    if *error.esource() == ErrorSource::Downstream {
        return whole::unread(error, http2);
    }
    let reason = error.etype().as_str().to_owned();
    Some(match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            Refusal::new(Code::UpstreamTimeout, "The service behind the gateway did not answer in time.").reason(reason)
        }
        ErrorType::InternalError => Refusal::new(Code::Internal, "The request cannot be served.").reason(reason),
        _ => {
            Refusal::new(Code::UpstreamUnavailable, "The service behind the gateway cannot be reached.").reason(reason)
        }
    })
}
