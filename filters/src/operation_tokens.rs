//! Leave for one operation, once: a token that one route gives out with its response, and that another one asks for and uses up.
//!
//! It is bound to the caller, to the route that requires it and to the transaction, and is burned in one step, shared between
//! instances, before anything reaches the upstream: of any number of equal requests at once one passes.

mod token;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    guard,
    model::{self, IssuedFor, UsedFor},
};
use http::{HeaderName, HeaderValue, Method, header::CACHE_CONTROL, request, response};

pub use self::token::OperationTokens;
use self::token::{Spent, Terms, pointed_at};
use crate::{
    contract::{Code, Exchange, Filter, Refusal, Services, Stage},
    reading,
    replay::{Mark, ReplayId},
};

/// A token whose use is still to be noted. Recorded by [`RequireToken`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unspent {
    id: ReplayId,
    until_ms: u64,
}

/// Of a route that gives tokens out.
pub struct IssueTokens {
    tokens: Arc<OperationTokens>,
    from: Option<Issued>,
}

enum Issued {
    Segment(usize),
    Header(HeaderName),
    Body(String),
}

/// Of the route that asks for them.
pub struct RequireToken {
    tokens: Arc<OperationTokens>,
    from: Option<Used>,
}

enum Used {
    Segment(usize),
    Header(HeaderName),
}

/// The largest response that is read for the transaction in it.
const MAX_RESPONSE: u64 = 8 * 1024 * 1024;

fn segment_of(route: &model::Route, name: &str) -> Option<usize> {
    guard::named_segments(&route.path).find(|(_, known)| *known == name).map(|(at, _)| at)
}

/// The configuration's rules have held the places to the routes; what is left is a fault of ours, and refuses the file.
fn lost(route: &model::Route) -> Vec<Fault> {
    let fault =
        Fault::at(Place::root().key("routes"), format!("`{}` has not what its operation token is for", route.name));
    vec![fault.help("name the segment in `path`")]
}

impl IssueTokens {
    pub fn new(tokens: &Arc<OperationTokens>, route: &model::Route) -> Result<Self, Vec<Fault>> {
        let from = match tokens.issued_for() {
            None => None,
            Some(IssuedFor::Path(name)) => Some(Issued::Segment(segment_of(route, name).ok_or_else(|| lost(route))?)),
            Some(IssuedFor::Header(name)) => Some(Issued::Header(name.parse().map_err(|_| lost(route))?)),
            Some(IssuedFor::Body(pointer)) => Some(Issued::Body(pointer.clone())),
        };
        Ok(Self { tokens: Arc::clone(tokens), from })
    }

    /// What the token is for. None: the response does not say it.
    fn transaction(&self, head: &response::Parts, body: &[u8], exchange: &Exchange) -> Option<String> {
        match &self.from {
            None => Some(String::new()),
            Some(Issued::Segment(at)) => reading::segment(exchange.target.path(), *at).map(Into::into),
            Some(Issued::Header(name)) => {
                let mut values = head.headers.get_all(name).iter();
                let value = values.next().filter(|_| values.next().is_none())?;
                value.to_str().ok().map(str::to_owned)
            }
            Some(Issued::Body(pointer)) => pointed_at(body, pointer),
        }
        .filter(|transaction| self.from.is_none() || !transaction.is_empty())
    }
}

impl Filter for IssueTokens {
    fn stage(&self) -> Stage {
        Stage::OperationTokens
    }

    fn explain(&self) -> Vec<String> {
        let of = self.tokens.issued_for().map(|place| format!(" for {place}")).unwrap_or_default();
        vec![format!("{}: successful responses carry one{of}", self.tokens.explain())]
    }

    /// The response is complete before the client gets its first byte: a token is for an operation that has begun well.
    fn needs_body(&self) -> bool {
        true
    }

    fn max_response(&self) -> Option<u64> {
        Some(MAX_RESPONSE)
    }

    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        exchange.reads_response = head.method != Method::HEAD;
        Ok(())
    }

    async fn on_response_body(
        &self,
        head: &mut response::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        // Only the gateway gives them out.
        head.headers.remove(self.tokens.header());
        if !exchange.reads_response || !head.status.is_success() {
            return Ok(());
        }
        let Some(caller) = exchange.principal.clone() else { return Ok(()) };
        let issued = match self.transaction(head, body, exchange) {
            Some(transaction) => self.tokens.issue(caller.user_id.as_str(), &transaction, exchange.now.unix_ms).await,
            None => {
                self.tokens.unissued();
                Err("the response does not say what the token would be for".to_owned())
            }
        };
        // The operation before has happened: its answer is told all the same, and what needs the token will be refused.
        match issued {
            Ok(token) => {
                head.headers.insert(self.tokens.header().clone(), token);
                head.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            Err(why) => log::warn!("no token of {} is given out: {why}", self.tokens.name()),
        }
        Ok(())
    }
}

impl RequireToken {
    pub fn new(tokens: &Arc<OperationTokens>, route: &model::Route) -> Result<Self, Vec<Fault>> {
        let from = match tokens.used_for() {
            None => None,
            Some(UsedFor::Path(name)) => Some(Used::Segment(segment_of(route, name).ok_or_else(|| lost(route))?)),
            Some(UsedFor::Header(name)) => Some(Used::Header(name.parse().map_err(|_| lost(route))?)),
        };
        Ok(Self { tokens: Arc::clone(tokens), from })
    }

    fn transaction(&self, head: &request::Parts, exchange: &Exchange) -> Option<String> {
        match &self.from {
            None => Some(String::new()),
            Some(Used::Segment(at)) => reading::segment(exchange.target.path(), *at).map(Into::into),
            Some(Used::Header(name)) => reading::header(&head.headers, name).map(str::to_owned),
        }
    }

    /// The token of the request, if it is good for it.
    async fn check(&self, head: &request::Parts, exchange: &Exchange) -> Result<Unspent, Refusal> {
        let invalid = |why: &'static str| {
            self.tokens.invalid();
            denied("The operation token is not valid for this request.", why)
        };
        let mut values = head.headers.get_all(self.tokens.header()).iter();
        let Some(value) = values.next() else {
            self.tokens.missing();
            return Err(denied("This request needs an operation token.", "there is no operation token"));
        };
        if values.next().is_some() {
            return Err(invalid("there is more than one operation token"));
        }
        let token = value.to_str().map_err(|_| invalid("the operation token is no text"))?;
        let caller = exchange.principal.as_ref().ok_or_else(|| invalid("an operation token without a caller"))?;
        let transaction = self.transaction(head, exchange);
        let transaction =
            transaction.ok_or_else(|| invalid("the request does not say what its operation token is for"))?;
        let terms = Terms { user_id: caller.user_id.as_str(), transaction: &transaction, now_ms: exchange.now.unix_ms };
        match self.tokens.check(token, terms).await {
            Ok(Ok(Spent { id, until_ms })) => Ok(Unspent { id, until_ms }),
            Ok(Err(why)) => Err(invalid(why)),
            Err(why) => Err(Refusal::new(Code::Overloaded, BUSY).reason(why)),
        }
    }
}

const BUSY: &str = "The operation token cannot be checked at the moment.";

/// The caller is known, so it is no matter of credentials: a client that got 401 would throw its session away.
fn denied(detail: &'static str, why: &'static str) -> Refusal {
    Refusal::new(Code::PermissionDenied, detail).reason(why)
}

impl Filter for RequireToken {
    fn stage(&self) -> Stage {
        Stage::OperationTokens
    }

    fn explain(&self) -> Vec<String> {
        let of = self.tokens.used_for().map(|place| format!(" for {place}")).unwrap_or_default();
        vec![format!("{}: a request needs one{of}, and uses it up", self.tokens.explain())]
    }

    /// Checked before a body is read.
    async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        exchange.unspent = Some(self.check(head, exchange).await?);
        Ok(())
    }

    /// Burned when all else has agreed: a request that is refused has used nothing up.
    async fn on_forward(&self, _head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        let gone = |why| {
            self.tokens.invalid();
            Err(denied("The operation token is not valid for this request.", why))
        };
        let Some(Unspent { id, until_ms }) = exchange.unspent.take() else {
            return gone("no operation token was checked");
        };
        let Some(left) = until_ms.checked_sub(exchange.now.unix_ms).filter(|left| *left > 0) else {
            return gone("the operation token ended while the request came");
        };
        let keep = Duration::from_millis(left) + Duration::from_secs(1);
        match self.tokens.replays().check_and_mark(id, keep, exchange.now).await {
            Mark::New => {
                self.tokens.used();
                Ok(())
            }
            // Only who holds a good token learns it: whether its first use came through is what a client has to know.
            Mark::Seen => {
                self.tokens.replayed();
                Err(denied("The operation token was used before.", "the operation token was used before"))
            }
            Mark::Refused(why) => Err(Refusal::new(Code::Overloaded, BUSY).reason(why)),
        }
    }
}

/// Every table, used or not: what stands in the file must be right.
pub fn build(config: &model::Config, services: &Services) -> Result<Vec<(String, Arc<OperationTokens>)>, Vec<Fault>> {
    let (mut built, mut faults) = (Vec::new(), Vec::new());
    for (name, table) in &config.operation_tokens {
        let by = config.routes.iter().find(|route| route.requires.as_deref() == Some(name));
        match OperationTokens::build(name, table, by.map_or("", |route| &route.name), services) {
            Ok(tokens) => built.push((name.clone(), Arc::new(tokens))),
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(built) } else { Err(faults) }
}

#[cfg(test)]
mod tests;
