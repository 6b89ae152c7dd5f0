//! THE list of filters: one line each. A chain holds them as one enum, so that a hook is a jump and not an allocation.

use std::sync::Arc;

use bytes::Bytes;
use http::{request, response};

use crate::{
    addresses::Addresses,
    assertion::Assertion,
    authentication::{Authentication, LockoutDoor},
    authorisation::Authorisation,
    contract::{Exchange, Filter, HeaderEdit, Refusal, Stage},
    encryption::Encryption,
    guard::Guard,
    leases::Leases,
    operation_tokens::{IssueTokens, RequireToken},
    rate_limit::RateLimits,
    security_headers::SecurityHeaders,
};

macro_rules! registry {
    ($($variant:ident($filter:ty),)*) => {
        /// Any of the gateway's filters.
        pub enum AnyFilter { $($variant($filter),)* }

        $(impl From<$filter> for AnyFilter {
            fn from(filter: $filter) -> Self {
                Self::$variant(filter)
            }
        })*

        impl Filter for AnyFilter {
            fn stage(&self) -> Stage {
                match self { $(Self::$variant(filter) => filter.stage(),)* }
            }
            fn explain(&self) -> Vec<String> {
                match self { $(Self::$variant(filter) => filter.explain(),)* }
            }
            fn needs_body(&self) -> bool {
                match self { $(Self::$variant(filter) => filter.needs_body(),)* }
            }
            fn max_response(&self) -> Option<u64> {
                match self { $(Self::$variant(filter) => filter.max_response(),)* }
            }
            async fn on_request(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
                match self { $(Self::$variant(filter) => filter.on_request(head, exchange).await,)* }
            }
            async fn on_request_body(
                &self,
                head: &mut request::Parts,
                body: &mut Bytes,
                exchange: &mut Exchange,
            ) -> Result<(), Refusal> {
                match self { $(Self::$variant(filter) => filter.on_request_body(head, body, exchange).await,)* }
            }
            async fn on_forward(&self, head: &request::Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
                match self { $(Self::$variant(filter) => filter.on_forward(head, exchange).await,)* }
            }
            async fn on_response_body(
                &self,
                head: &mut response::Parts,
                body: &mut Bytes,
                exchange: &mut Exchange,
            ) -> Result<(), Refusal> {
                match self { $(Self::$variant(filter) => filter.on_response_body(head, body, exchange).await,)* }
            }
            fn on_response_headers<H: HeaderEdit>(&self, headers: &mut H, exchange: &mut Exchange) {
                match self { $(Self::$variant(filter) => filter.on_response_headers(headers, exchange),)* }
            }
            async fn on_complete(&self, exchange: &mut Exchange) {
                match self { $(Self::$variant(filter) => filter.on_complete(exchange).await,)* }
            }
        }
    };
}

registry! {
    Addresses(Addresses),
    Lockouts(LockoutDoor),
    RateLimits(RateLimits),
    Leases(Leases),
    Authentication(Authentication),
    Authorisation(Authorisation),
    Guard(Guard),
    // Shared by the routes that name it.
    Encryption(Arc<Encryption>),
    IssueTokens(IssueTokens),
    RequireToken(RequireToken),
    Assertion(Assertion),
    SecurityHeaders(SecurityHeaders),
}
