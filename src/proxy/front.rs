//! What every public listener serves: one exchange from its head to its end.
//!
//! A request whose body is small, or that has none, needs nothing of Pingora's own proxy and does not enter it: its flow is
//! made for bodies that stream, and costs a quarter of what such a request costs at all.

use std::sync::Arc;

use async_trait::async_trait;
use gapura_filters::{authentication::Ended, contract::Clock};
use http::{StatusCode, header::CONTENT_LENGTH};
use pingora::{
    apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream},
    protocols::http::{ServerSession, v2::server::H2Options},
    proxy::HttpProxy,
    server::ShutdownWatch,
};

use super::{
    access,
    admit::{self, SMALL, Way},
    answer,
    context::Context,
    delivery,
    hooks::Proxy,
    lasting,
    listen::App,
    own, sealed,
    tunnel::Tunnel,
    whole::{self, Broken},
};
use crate::wiring::Gateway;

/// The application behind every public listener.
pub(crate) struct Front {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) pingora: Arc<HttpProxy<Proxy>>,
}

impl App for Front {
    async fn serve_small(
        self: &Arc<Self>,
        session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        serve(&self.gateway, session).await
    }
}

#[async_trait]
impl HttpServerApp for Front {
    /// HTTP/1 with a body that may have to stream; every stream of HTTP/2.
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.is_http2() && is_small(&mut session) {
            return serve(&self.gateway, session).await;
        }
        self.pingora.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.pingora.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.pingora.server_options()
    }
}

/// Of HTTP/2, whose head is here with its session.
fn is_small(session: &mut ServerSession) -> bool {
    let length =
        session.req_header().headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length <= SMALL) || session.is_body_empty()
}

/// One exchange. The stream, where another request may follow on it.
async fn serve(gateway: &Arc<Gateway>, mut session: ServerSession) -> Option<ReusedHttpStream> {
    // The gate has read the head already; what fails here is a client that left.
    if !session.read_request().await.unwrap_or(false) {
        return None;
    }
    let mut context = Context::new(gateway);
    let outcome = match first(gateway, &mut session, &mut context).await {
        Ok(Next::Nothing) => Ok(()),
        Ok(Next::Tunnel(tunnel)) => {
            let ServerSession::H1(session) = session else { return None };
            let status = session.response_written().map(|head| head.status);
            // Boxed: seldom run, and every exchange would be as large.
            let ended = lasting::until_ended(Arc::clone(gateway), std::mem::take(&mut context.exchange.tenures));
            let (bytes, ended) = Box::pin(tunnel.run(session.into_inner(), ended)).await;
            if let Some(ended) = ended {
                context.end("websocket", ended);
            }
            complete(gateway, status, bytes, &mut context).await;
            return None;
        }
        // What is small never streams. If it did, no answer at all would come.
        Ok(Next::Stream) => Err(Broken::Cut),
        Err(Broken::Refused(refusal)) => {
            answer::refuse(&mut session, &mut context, refusal).await.map_err(|_| Broken::Cut)
        }
        Err(cut) => Err(cut),
    };
    let status = session.response_written().map(|head| head.status);
    complete(gateway, status, session.body_bytes_sent(), &mut context).await;
    answer::linger(&mut session, &context).await;
    if outcome.is_err() {
        // Of HTTP/2 the stream is reset. Of HTTP/1 the connection falls: an orderly end would look like that of the body.
        if session.is_http2() {
            session.shutdown().await;
        }
        return None;
    }
    let (stream, _) = session.finish().await.ok()??.into_parts();
    Some(ReusedHttpStream::new(stream, None))
}

/// What remains of an exchange.
pub(super) enum Next {
    Nothing,
    Stream,
    Tunnel(Tunnel),
}

/// Head, filters and, unless it is to stream, all the rest.
pub(super) async fn first(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<Next, Broken> {
    context.begin(session);
    if own::serves(session, context).await? {
        return Ok(Next::Nothing);
    }
    match admit::admit(gateway, session, context).await? {
        Way::Keys => {
            delivery::serve(gateway, session, context).await?;
            Ok(Next::Nothing)
        }
        Way::Streamed => {
            context.place = context.live.lanes.enter(context.route_name()).await?;
            let live = Arc::clone(&context.live);
            if let Some(route) = context.route.map(|index| live.policy.route(index)) {
                route.chain.on_forward(&gateway.clock, session.req_header(), &mut context.exchange).await?;
            }
            Ok(Next::Stream)
        }
        // Boxed: seldom run, and every exchange would be as large.
        Way::Sealed => Box::pin(sealed::exchange(gateway, session, context)).await.map(|()| Next::Nothing),
        Way::Whole { max_body, seen } => {
            let pause = context.live.config.limits.body_timeout.get();
            let body = whole::read_body(session, max_body, pause).await?;
            // Who is slow to send holds no place; and an envelope that is refused for want of one has not been used up.
            let entering = context.live.lanes.enter(context.route_name());
            context.place = whole::while_there(session, entering).await??;
            let tunnel = whole::exchange(gateway, session, context, body, seen).await?;
            Ok(tunnel.map_or(Next::Nothing, Next::Tunnel))
        }
    }
}

/// Always, once an exchange is over.
pub(super) async fn complete(gateway: &Gateway, status: Option<StatusCode>, bytes: usize, context: &mut Context) {
    let now = gateway.clock.now();
    context.exchange.now = now;
    context.place = None;
    let live = Arc::clone(&context.live);
    let route = context.route.map(|index| live.policy.route(index));
    if let Some(route) = route {
        route.chain.on_complete(&mut context.exchange).await;
    }
    let metrics = route.map_or(&live.policy.unrouted, |route| &route.metrics);
    let taken = now.monotonic.saturating_sub(context.started.monotonic);
    metrics.seconds.observe(taken.as_secs_f64());
    if let Some(status) = status {
        metrics.count(&context.method, status);
    }
    if live.access_log {
        let user = context.exchange.principal.as_ref().map_or("-", |principal| principal.user_id.as_str());
        let ended = context.ended.map_or("-", Ended::reason);
        let (code, reason) = context.refused.as_ref().map_or(("-", ended), |(code, reason)| (code.name(), reason));
        let line = access::Line {
            id: context.request_id.as_str(),
            client: context.exchange.client_ip,
            method: context.method.as_str(),
            path: context.target.path(),
            route: route.map_or("-", |route| &route.name),
            status: status.map_or(0, |status| status.as_u16()),
            taken,
            bytes,
            user,
            code,
            reason,
        };
        line.write();
    }
}
