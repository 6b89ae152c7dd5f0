//! A response that is sealed as it comes: see [`super::sealed`].
//!
//! Content that fills no record waits a moment for more, and goes in a padded one if none comes. Only a response that came whole
//! gets its last record; any other is broken off, and then lacks it whatever the transport makes of that.

use std::{future::Future, future::pending, pin::Pin, sync::Arc};

use bytes::Bytes;
use gapura_filters::{
    authentication::Ended,
    contract::Clock,
    encryption::{
        Encryption,
        stream::{Aborted, Outgoing},
    },
};
use http::{
    StatusCode, Version,
    header::{self, CONTENT_LENGTH},
};
use pingora::{http::ResponseHeader, protocols::http::ServerSession};
use tokio::time::{Instant, sleep_until};

use super::{
    answer,
    context::Context,
    lasting,
    whole::{self, Broken},
};
use crate::{upstream::Failure, wiring::Gateway};

pub(super) struct Reply {
    entry: Arc<Encryption>,
    /// None: it has no body.
    out: Option<Outgoing>,
    /// When content that waits for more has waited enough.
    due: Option<Instant>,
    /// Events without an end are a socket, and end as one. Of anything else: never.
    ended: Pin<Box<dyn Future<Output = Ended> + Send>>,
}

/// Why something is to be done before the upstream says more.
pub(super) enum Turn {
    Flush,
    Ended(Ended),
}

impl Reply {
    /// Sends the head. `length` is that of the body, where the upstream said it.
    pub(super) async fn begin(
        gateway: &Arc<Gateway>,
        session: &mut ServerSession,
        context: &mut Context,
        entry: &Arc<Encryption>,
        (mut head, length): (ResponseHeader, Option<u64>),
    ) -> Result<Self, Broken> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let why = "the server switches protocols on a route whose bodies are sealed";
            return Err(whole::refusal(Failure::Broken(why.into())).into());
        }
        answer::drop_hop_by_hop(&mut head);
        let events = whole::is_events(&head);
        context.exchange.now = gateway.clock.now();
        let mut parts = head.as_owned_parts();
        let out = entry.outgoing(&mut parts, length, &context.exchange)?;
        let mut head = ResponseHeader::from(parts);
        answer::drop_length(&mut head);
        answer::finish(session, &mut head, context);
        if out.is_some() {
            head.remove_header(&CONTENT_LENGTH);
            match session.req_header().version {
                Version::HTTP_11 => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
                // HTTP/1.0 knows no end but that of the connection.
                Version::HTTP_10 => session.set_keepalive(None),
                _ => {}
            }
        }
        let tenures = if events { std::mem::take(&mut context.exchange.tenures) } else { Default::default() };
        let ended = Box::pin(lasting::until_ended(Arc::clone(gateway), tenures));
        answer::write_head(session, head, out.is_none()).await?;
        Ok(Self { entry: Arc::clone(entry), out, due: None, ended })
    }

    pub(super) async fn piece(&mut self, session: &mut ServerSession, content: &[u8]) -> Result<(), Broken> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let sealed = out.push(content);
        if !sealed.is_empty() || !out.waits() {
            self.due = None;
        }
        if out.waits() && self.due.is_none() {
            self.due = Some(Instant::now() + out.patience());
        }
        self.send(session, sealed, false).await
    }

    pub(super) async fn flush(&mut self, session: &mut ServerSession) -> Result<(), Broken> {
        self.due = None;
        let Some(out) = &mut self.out else { return Ok(()) };
        let sealed = out.flush();
        self.send(session, sealed, false).await
    }

    /// The response is whole.
    pub(super) async fn finish(&mut self, session: &mut ServerSession) -> Result<(), Broken> {
        self.due = None;
        match self.out.take() {
            Some(out) => self.send(session, out.finish(), true).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, session: &mut ServerSession, sealed: Bytes, last: bool) -> Result<(), Broken> {
        if sealed.is_empty() {
            return Ok(());
        }
        session.write_response_body(sealed, last).await.map_err(|_| {
            self.entry.aborted(Aborted::Client);
            Broken::Cut
        })
    }

    /// Safe to drop while it waits.
    pub(super) async fn turn(&mut self) -> Turn {
        let due = self.due;
        let flush = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut self.ended => Turn::Ended(ended),
            () = flush => Turn::Flush,
        }
    }
}
