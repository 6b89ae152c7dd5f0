//! What a filter is: a stage, and hooks that can refuse.

use std::future::{Future, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, request, response};

use super::{Exchange, Refusal};

/// Where a filter stands. The order is the gateway's, never the file's: cheap checks and those that protect later ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// From where a route may be called.
    Addresses,
    /// Addresses that guessed at credentials.
    Lockouts,
    /// Limits by address, header, route: before any credential is looked at.
    ClientLimits,
    /// Whether the keys that the route needs are there.
    Leases,
    Authentication,
    /// Limits by user and API key.
    PrincipalLimits,
    Authorisation,
    Decryption,
    /// Who calls, signed for the upstream.
    Assertion,
    /// Leave for one operation: looked at before a body is read, used up last of all.
    OperationTokens,
    ResponseHeaders,
}

impl Stage {
    pub const ALL: &[Self] = &[
        Self::Addresses,
        Self::Lockouts,
        Self::ClientLimits,
        Self::Leases,
        Self::Authentication,
        Self::PrincipalLimits,
        Self::Authorisation,
        Self::Decryption,
        Self::Assertion,
        Self::OperationTokens,
        Self::ResponseHeaders,
    ];

    /// The metric label and the word in `gapura explain`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses",
            Self::Lockouts => "lockouts",
            Self::ClientLimits => "client_limits",
            Self::Leases => "leases",
            Self::Authentication => "authentication",
            Self::PrincipalLimits => "principal_limits",
            Self::Authorisation => "authorisation",
            Self::Decryption => "decryption",
            Self::OperationTokens => "operation_tokens",
            Self::Assertion => "assertion",
            Self::ResponseHeaders => "response_headers",
        }
    }
}

/// A decision on a route. Built once per policy, asked for every exchange; it holds settings, never the state of an exchange.
pub trait Filter: Send + Sync + Sized + 'static {
    fn stage(&self) -> Stage;

    /// Its settings in one or more lines, for `gapura explain`. Never a secret.
    fn explain(&self) -> Vec<String>;

    /// It must see the whole body: the exchange is then *buffered*, and nothing reaches an upstream before it has agreed.
    fn needs_body(&self) -> bool {
        false
    }

    /// The largest response, in bytes, that it takes whole. None: it takes none.
    fn max_response(&self) -> Option<u64> {
        None
    }

    fn on_request(
        &self,
        _head: &request::Parts,
        _exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(Ok(()))
    }

    /// The whole bounded request body (empty where the request has none); it may be replaced.
    fn on_request_body(
        &self,
        _head: &mut request::Parts,
        _body: &mut Bytes,
        _exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(Ok(()))
    }

    /// Everything has agreed, and the request goes to its upstream next. Once for each exchange, however many servers are tried.
    fn on_forward(
        &self,
        _head: &request::Parts,
        _exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(Ok(()))
    }

    /// The whole bounded response of a buffered exchange; head and body may be replaced. In reverse order.
    fn on_response_body(
        &self,
        _head: &mut response::Parts,
        _body: &mut Bytes,
        _exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        ready(Ok(()))
    }

    /// Fields of any response, the gateway's own problems too.
    fn on_response_headers<H: HeaderEdit>(&self, _headers: &mut H, _exchange: &mut Exchange) {}

    /// Always, once the exchange is over.
    fn on_complete(&self, _exchange: &mut Exchange) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// The fields of a response head, whoever holds it: Pingora keeps a map of spellings beside its own, which a plain
/// `HeaderMap` edit would put out of step.
pub trait HeaderEdit {
    fn contains(&self, name: &HeaderName) -> bool;
    /// The value, where there is one and no more.
    fn only(&self, name: &HeaderName) -> Option<&HeaderValue>;
    /// Replaces every value of that name.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
    fn unset(&mut self, name: &HeaderName);
}

impl HeaderEdit for HeaderMap {
    fn contains(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }
    fn only(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let mut values = self.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    }
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name.clone(), value);
    }
    fn unset(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}
