//! The filters of one route, in the gateway's order.

use bytes::Bytes;
use http::{request, response};
use prometheus::Histogram;

use crate::{
    contract::{Clock, Exchange, Filter, HeaderEdit, Refusal, Services, Stage},
    registry::AnyFilter,
};

/// The order is that of [`Stage`], whatever the file said.
pub struct Chain {
    links: Box<[Link]>,
    needs_body: bool,
}

struct Link {
    filter: AnyFilter,
    /// `gapura_stage_duration_seconds` of its stage, where it has hooks that can wait or work.
    seconds: Option<Histogram>,
    /// Of a stage that has something to do before the request goes on: most have not, and no clock is read for them.
    forwards: bool,
}

impl Chain {
    pub fn new(mut filters: Vec<AnyFilter>, services: &Services) -> Self {
        filters.sort_by_key(Filter::stage);
        let needs_body = filters.iter().any(Filter::needs_body);
        let links = filters
            .into_iter()
            .map(|filter| {
                let stage = filter.stage();
                let seconds = (stage != Stage::ResponseHeaders)
                    .then(|| services.metrics.stage_duration.with_label_values(&[stage.name()]));
                let forwards = matches!(stage, Stage::OperationTokens | Stage::Assertion);
                Link { filter, seconds, forwards }
            })
            .collect();
        Self { links, needs_body }
    }

    /// A filter must see whole bodies: the exchange is *buffered*.
    pub fn needs_body(&self) -> bool {
        self.needs_body
    }

    /// The largest response, in bytes, that a filter takes whole.
    pub fn max_response(&self) -> Option<u64> {
        self.links.iter().filter_map(|link| link.filter.max_response()).min()
    }

    /// Stages and settings, in the order in which a request meets them.
    pub fn explain(&self) -> impl Iterator<Item = (Stage, Vec<String>)> {
        self.links.iter().map(|link| (link.filter.stage(), link.filter.explain()))
    }

    /// The request head. Each filter sees the time at which it is asked: one before it may have waited.
    pub async fn on_request(
        &self,
        clock: &impl Clock,
        head: &request::Parts,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        for link in &self.links {
            let Some(seconds) = &link.seconds else { continue };
            let before = exchange.now.monotonic;
            let outcome = link.filter.on_request(head, exchange).await;
            exchange.now = clock.now();
            seconds.observe((exchange.now.monotonic - before).as_secs_f64());
            outcome?;
        }
        Ok(())
    }

    /// What the filters up to a stage say of a request head, without measuring it; where it ended.
    pub async fn judge(
        &self,
        last: Stage,
        head: &request::Parts,
        exchange: &mut Exchange,
    ) -> Result<(), (Stage, Refusal)> {
        for link in self.links.iter().filter(|link| link.filter.stage() <= last) {
            let judged = link.filter.on_request(head, exchange).await;
            judged.map_err(|refusal| (link.filter.stage(), refusal))?;
        }
        Ok(())
    }

    /// Whether the keys of the route are still lent. For whoever has waited since [`Self::on_request`], and uses one next.
    pub fn check_leases(&self) -> Result<(), Refusal> {
        self.links.iter().try_for_each(|link| match &link.filter {
            AnyFilter::Leases(leases) => leases.check(),
            _ => Ok(()),
        })
    }

    /// The whole request body, empty where there is none.
    pub async fn on_request_body(
        &self,
        clock: &impl Clock,
        head: &mut request::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        self.check_leases()?;
        for link in self.links.iter().filter(|link| link.filter.needs_body()) {
            exchange.now = clock.now();
            let before = exchange.now.monotonic;
            let outcome = link.filter.on_request_body(head, body, exchange).await;
            if let Some(seconds) = &link.seconds {
                seconds.observe((clock.now().monotonic - before).as_secs_f64());
            }
            outcome?;
        }
        Ok(())
    }

    /// Everything has agreed: what is left to do before the request goes to its upstream.
    pub async fn on_forward(
        &self,
        clock: &impl Clock,
        head: &request::Parts,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        self.check_leases()?;
        for link in self.links.iter().filter(|link| link.forwards) {
            exchange.now = clock.now();
            let before = exchange.now.monotonic;
            let outcome = link.filter.on_forward(head, exchange).await;
            if let Some(seconds) = &link.seconds {
                seconds.observe((clock.now().monotonic - before).as_secs_f64());
            }
            outcome?;
        }
        Ok(())
    }

    /// The whole response of a buffered exchange, in reverse order.
    pub async fn on_response_body(
        &self,
        clock: &impl Clock,
        head: &mut response::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        for link in self.links.iter().rev().filter(|link| link.filter.needs_body()) {
            exchange.now = clock.now();
            link.filter.on_response_body(head, body, exchange).await?;
        }
        Ok(())
    }

    /// The fields of any response, the gateway's own problems too.
    pub fn on_response_headers<H: HeaderEdit>(&self, headers: &mut H, exchange: &mut Exchange) {
        for link in self.links.iter().rev() {
            link.filter.on_response_headers(headers, exchange);
        }
    }

    /// Always, once the exchange is over.
    pub async fn on_complete(&self, exchange: &mut Exchange) {
        for link in self.links.iter().rev() {
            link.filter.on_complete(exchange).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authorisation::Authorisation, metrics::Metrics, security_headers::SecurityHeaders};

    #[test]
    fn the_order_is_the_gateways() {
        let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
        let route = serde_json::json!({ "name": "r", "path": "/r", "upstream": "u", "roles": ["a"] });
        let authorisation = Authorisation::new(&serde_json::from_value(route).unwrap()).unwrap();
        let headers = SecurityHeaders::build(gapura_config::model::SecurityHeaders::Api).unwrap();
        let chain = Chain::new(vec![headers.into(), authorisation.into()], &services);
        let stages: Vec<Stage> = chain.explain().map(|(stage, _)| stage).collect();
        assert_eq!(stages, [Stage::Authorisation, Stage::ResponseHeaders]);
        assert!(!chain.needs_body());
    }
}
