//! Exchanges whose messages are opened and sealed record by record, with the memory of a few records whatever their length.
//!
//! The first record is opened before anything else happens: it says whose the message is, for which request and how old. A message that
//! ends with it goes on whole, as small bodies do everywhere. Any other goes on as it comes, each record once it has opened; the client
//! is read only when the upstream has taken what was there. When a later record does not open, or the last one is missing, the
//! upstream is left without an end of its request, and the client gets the same refusal as for the first record, or a response that
//! breaks off where one has begun.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_filters::{
    contract::{Clock, Code, Refusal},
    encryption::{
        Encryption,
        stream::{Aborted, Incoming},
    },
    policy::Route,
};
use http::header::{self, CONTENT_LENGTH};
use pingora::{
    ErrorType,
    http::{RequestHeader, ResponseHeader},
    protocols::http::ServerSession,
};

use super::{
    admit, answer,
    context::Context,
    listen::Connection,
    reply::{Reply, Turn},
    whole::{self, Broken},
};
use crate::{
    upstream::{Answer, Call, Event, Failure, Upload, Upstream},
    wiring::Gateway,
};

/// What all steps of one exchange need.
struct Way<'a> {
    gateway: &'a Arc<Gateway>,
    entry: &'a Arc<Encryption>,
    route: &'a Route,
    upstream: &'a Upstream,
}

pub(super) async fn exchange(
    gateway: &Arc<Gateway>,
    session: &mut ServerSession,
    context: &mut Context,
) -> Result<(), Broken> {
    let live = Arc::clone(&context.live);
    let Some(route) = context.route.map(|index| live.policy.route(index)) else { return Err(Broken::Cut) };
    let (Some(entry), Some(upstream)) = (&route.encryption, live.upstreams.get(&route.upstream)) else {
        return Err(Broken::Cut);
    };
    let way = Way { gateway, entry, route, upstream };
    let pause = live.config.limits.body_timeout.get();
    let mut parts = session.req_header().clone().as_owned_parts();
    let mut body = Body { incoming: None, max: route.max_body, received: 0, pause, ahead: None, ended: false };
    let content = body.first(&way, session, context, &parts).await?;
    context.place = tokio::select! {
        biased;
        place = live.lanes.enter(&route.name) => place?,
        left = body.left(session) => return Err(left),
    };
    route.chain.check_leases()?;
    context.exchange.now = gateway.clock.now();
    match &mut body.incoming {
        Some(incoming) => incoming.accept(&content, &mut parts, &mut context.exchange).await?,
        None => entry.without_body(&mut parts, &mut context.exchange).await?,
    }
    let mut head = RequestHeader::from(parts);
    route.chain.on_forward(&gateway.clock, &head, &mut context.exchange).await?;
    if body.ended {
        let length = body.incoming.is_some().then_some(content.len());
        whole::prepare(&mut head, context, length, true);
        let call = Call {
            connector: &gateway.pingora().connector,
            upstream,
            head: &head,
            body: &content,
            timeout: route.timeout,
        };
        let sent = gateway.clock.now();
        let answer = whole::unless_left(session, call.send()).await;
        let mut answer = answer.inspect_err(|broken| way.unanswered(broken))?;
        upstream.seconds.observe((gateway.clock.now().monotonic - sent.monotonic).as_secs_f64());
        let head = std::mem::replace(&mut answer.head, ResponseHeader::build_no_case(200, None)?);
        let length = answer.length();
        let reply = Reply::begin(gateway, session, context, entry, (head, length)).await;
        let reply = reply.inspect_err(|broken| way.unanswered(broken))?;
        return way.download(session, context, (answer, reply), true).await;
    }
    whole::prepare(&mut head, context, None, true);
    head.remove_header(&CONTENT_LENGTH);
    head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    way.upload(session, context, &head, (body, content)).await
}

/// The body of a request.
struct Body {
    /// None: there is none.
    incoming: Option<Incoming>,
    max: u64,
    received: u64,
    /// The longest between two pieces.
    pause: Duration,
    /// Read and not yet opened; None in it is the end.
    ahead: Option<Option<Bytes>>,
    ended: bool,
}

impl Body {
    /// What opens first: at least one record, and all of a message that has no more.
    async fn first(
        &mut self,
        way: &Way<'_>,
        session: &mut ServerSession,
        context: &mut Context,
        head: &http::request::Parts,
    ) -> Result<Bytes, Broken> {
        if !session.is_http2() && session.is_body_done() {
            self.ended = true;
            return Ok(Bytes::new());
        }
        whole::invite(session).await?;
        // All that opens here opens at once: with the first record, or at the end.
        let mut content = Bytes::new();
        loop {
            let Some(piece) = whole::read_piece(session, self.pause).await? else {
                self.ended = true;
                if let Some(incoming) = &mut self.incoming {
                    incoming.finish()?;
                    content = if content.is_empty() { incoming.take() } else { content };
                }
                return Ok(content);
            };
            if piece.is_empty() {
                continue;
            }
            if self.incoming.is_none() {
                let most = whole::declared_length(session).unwrap_or(u64::MAX).min(self.max);
                self.incoming = Some(way.entry.incoming(head, &context.exchange)?.at_most(most));
            }
            self.count(&piece)?;
            let Some(incoming) = &mut self.incoming else { return Err(Broken::Cut) };
            // Until a record has opened the message may still turn to a key; from then on it goes on under its own.
            way.route.chain.check_leases()?;
            context.exchange.now = way.gateway.clock.now();
            incoming.push(&piece, context.exchange.now)?;
            content = if content.is_empty() { incoming.take() } else { content };
            // Behind the last record there is only the end, which is worth waiting for.
            if incoming.is_authentic() && !incoming.is_last() {
                return Ok(content);
            }
        }
    }

    /// What opens next; empty where no record is complete. Until it is `wanted`: the end of a client that leaves.
    /// Safe to drop while it waits.
    async fn next(&mut self, way: &Way<'_>, session: &mut ServerSession, wanted: bool) -> Result<Bytes, Broken> {
        let piece = if wanted { self.piece(session).await } else { Err(self.left(session).await) };
        let piece = piece.inspect_err(|broken| way.entry.aborted(of_client(broken)))?;
        if let Some(piece) = &piece {
            self.count(piece).inspect_err(|_| way.entry.aborted(Aborted::TooLarge))?;
        }
        let Some(incoming) = &mut self.incoming else { return Err(Broken::Cut) };
        match piece {
            Some(piece) => incoming.push(&piece, way.gateway.clock.now())?,
            None => {
                incoming.finish()?;
                self.ended = true;
            }
        }
        Ok(incoming.take())
    }

    async fn piece(&mut self, session: &mut ServerSession) -> Result<Option<Bytes>, Broken> {
        match self.ahead.take() {
            Some(piece) => Ok(piece),
            None => whole::read_piece(session, self.pause).await,
        }
    }

    /// Waits for the client to leave, or to break the rules, while nothing is wanted of it. It may be silent meanwhile. One piece is
    /// read ahead: over HTTP/1 its end stands behind what it has sent. Safe to drop while it waits.
    async fn left(&mut self, session: &mut ServerSession) -> Broken {
        while !self.ended && self.ahead.is_none() {
            match session.read_request_body().await {
                Ok(piece) => self.ahead = Some(piece),
                Err(why) if *why.etype() == ErrorType::ReadTimedout => {}
                Err(why) => return whole::unread(&why, session.is_http2()).map_or(Broken::Cut, Broken::Refused),
            }
        }
        let connection = session.as_http1().and_then(|session| session.stream().as_ref().as_any().downcast_ref());
        match connection.filter(|_| !self.is_read()) {
            Some(connection) => Connection::left(connection).await,
            None => drop(session.read_body_or_idle(true).await),
        }
        Broken::Cut
    }

    /// Nothing more of it can come.
    fn is_read(&self) -> bool {
        self.ended || matches!(self.ahead, Some(None))
    }

    /// The limit is of what was sent, and so of what is in it.
    fn count(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.received += piece.len() as u64;
        if self.received > self.max { Err(admit::too_large(self.max)) } else { Ok(()) }
    }
}

impl Way<'_> {
    /// The rest of the request as it comes, and of the response as much as comes meanwhile.
    async fn upload(
        &self,
        session: &mut ServerSession,
        context: &mut Context,
        head: &RequestHeader,
        (mut body, content): (Body, Bytes),
    ) -> Result<(), Broken> {
        let sent = self.gateway.clock.now();
        let connector = &self.gateway.pingora().connector;
        let upload = Upload::begin(connector, self.upstream, head, self.route.timeout).await;
        let mut upload = upload.map_err(|failure| self.broken(failure))?;
        upload.send(content);
        let mut reply = None;
        while !(reply.is_some() && upload.is_over()) {
            let turn = async {
                match &mut reply {
                    Some(reply) => Reply::turn(reply).await,
                    None => pending().await,
                }
            };
            let wants = upload.wants();
            let step = tokio::select! {
                biased;
                // First: an upstream that always has more to say must not put off its end.
                turn = turn => Ok(Step::Turn(turn)),
                event = upload.next() => event.map(Step::Event).map_err(|failure| self.broken(failure).into()),
                content = body.next(self, session, wants) => content.map(Step::Content),
            };
            let step = step.map_err(|broken| break_off(context, reply.is_some(), broken))?;
            match (step, &mut reply) {
                (Step::Event(Event::Taken), _) => {}
                (Step::Event(Event::Head(head, length)), _) => {
                    self.upstream.seconds.observe((self.gateway.clock.now().monotonic - sent.monotonic).as_secs_f64());
                    // Where the request is not read to its end, no other can follow on its connection.
                    if !body.ended && upload.is_over() {
                        session.set_keepalive(None);
                    }
                    let begun = Reply::begin(self.gateway, session, context, self.entry, (*head, length)).await;
                    reply = Some(begun.inspect_err(|broken| self.unanswered(broken))?);
                }
                (Step::Event(Event::Piece(piece)), Some(reply)) => reply.piece(session, &piece).await?,
                (Step::Event(Event::End), Some(reply)) => reply.finish(session).await?,
                (Step::Content(content), _) => {
                    upload.send(content);
                    if body.ended {
                        upload.end();
                    }
                }
                (Step::Turn(Turn::Flush), Some(reply)) => reply.flush(session).await?,
                (Step::Turn(Turn::Ended(why)), Some(reply)) => {
                    context.end("events", why);
                    if !body.ended {
                        session.set_keepalive(None);
                    }
                    return reply.finish(session).await;
                }
                (_, None) => return Err(Broken::Cut),
            }
        }
        if !body.ended {
            session.set_keepalive(None);
        }
        if upload.is_answered() {
            return Ok(());
        }
        let (Some(reply), Some(answer)) = (reply, upload.into_answer()) else { return Err(Broken::Cut) };
        self.download(session, context, (answer, reply), body.ended).await
    }

    /// The response, or what is left of it. A client whose request was `read` to its end is watched for its own.
    async fn download(
        &self,
        session: &mut ServerSession,
        context: &mut Context,
        (mut answer, mut reply): (Answer, Reply),
        read: bool,
    ) -> Result<(), Broken> {
        loop {
            let piece = tokio::select! {
                biased;
                // First, as in [`Self::upload`].
                turn = reply.turn() => match turn {
                    Turn::Flush => {
                        reply.flush(session).await?;
                        continue;
                    }
                    Turn::Ended(why) => {
                        context.end("events", why);
                        return reply.finish(session).await;
                    }
                },
                piece = answer.read() => piece,
                // Also sends the head, which waits for company.
                _ = session.read_body_or_idle(true), if read => {
                    self.entry.aborted(Aborted::Client);
                    return Err(Broken::Cut);
                }
            };
            match piece {
                Ok(Some(piece)) => reply.piece(session, &piece).await?,
                Ok(None) => {
                    reply.finish(session).await?;
                    answer.finish();
                    return Ok(());
                }
                Err(failure) => {
                    let refusal = self.broken(failure);
                    return Err(break_off(context, true, refusal.into()));
                }
            }
        }
    }

    /// Counts an exchange without a response.
    fn unanswered(&self, broken: &Broken) {
        self.entry.aborted(match broken {
            Broken::Refused(_) => Aborted::Upstream,
            Broken::Cut => Aborted::Client,
        });
    }

    fn broken(&self, failure: Failure) -> Refusal {
        self.entry.aborted(Aborted::Upstream);
        whole::refusal(failure)
    }
}

enum Step {
    Event(Event),
    Content(Bytes),
    Turn(Turn),
}

/// Why nothing more of a request is read.
fn of_client(broken: &Broken) -> Aborted {
    match broken {
        Broken::Refused(refusal) if refusal.code == Code::RequestTimeout => Aborted::Late,
        Broken::Refused(_) => Aborted::Malformed,
        Broken::Cut => Aborted::Client,
    }
}

/// A refusal comes too late for a response that has begun: then that breaks off, and only the log says why.
fn break_off(context: &mut Context, begun: bool, broken: Broken) -> Broken {
    match broken {
        Broken::Refused(refusal) if begun => {
            answer::note(context, refusal);
            Broken::Cut
        }
        broken => broken,
    }
}
