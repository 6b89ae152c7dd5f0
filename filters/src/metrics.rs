//! Every metric, declared once. Labels are enums or names from the configuration, so their number is bounded.

use std::sync::OnceLock;

use http::{Method, StatusCode};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, exponential_buckets,
};

use crate::{authentication::Ended, contract::Code};

/// The metrics of one process. Filters take the counters they need when they are built, so that counting is one atomic add.
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub refusals: IntCounterVec,
    pub reloads: IntCounterVec,
    pub request_duration: HistogramVec,
    pub stage_duration: HistogramVec,
    pub upstream_duration: HistogramVec,
    pub address_refusals: IntCounterVec,
    pub lockouts: IntCounterVec,
    pub lockout_refusals: IntCounter,
    pub revocations: IntCounterVec,
    pub streams_ended: IntCounterVec,
    pub dpop_proofs: IntCounterVec,
    pub assertions: IntCounterVec,
    pub operation_tokens: IntCounterVec,
    pub rate_limit_decisions: IntCounterVec,
    pub rate_limit_overflow: IntCounterVec,
    pub decryptions: IntCounterVec,
    pub envelopes: IntCounterVec,
    pub streams_aborted: IntCounterVec,
    pub connections: IntGaugeVec,
    pub in_flight: IntGaugeVec,
    pub queued: IntGaugeVec,
    pub load: IntGauge,
    pub client_crls_end: IntGauge,
    pub shed: IntCounterVec,
    pub key_fetches: IntCounterVec,
    pub keys: IntGaugeVec,
    pub held_keys: IntGaugeVec,
    pub key_lookups: IntCounterVec,
    pub key_lookup_duration: HistogramVec,
    pub kms_calls: IntCounterVec,
    pub kms_duration: HistogramVec,
    pub kms_keys: IntGaugeVec,
    pub store_up: IntGaugeVec,
    pub store_calls: IntCounterVec,
    pub store_duration: HistogramVec,
    pub store_decisions: IntCounterVec,
}

impl Metrics {
    /// Fails only if two metrics had one name, which the test below excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let seconds = |name: &str, help: &str, label: &str, from: f64| {
            let options = HistogramOpts::new(name, help).buckets(exponential_buckets(from, 4.0, 10)?);
            let histogram = HistogramVec::new(options, &[label])?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let gauge = |name: &str, help: &str, label: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let load = IntGauge::new("gapura_load", "Requests with an upstream, where limits.max_in_flight bounds them.")?;
        registry.register(Box::new(load.clone()))?;
        let end = "When the first list of tls.client_crls should have been replaced; 0: there are none.";
        let client_crls_end = IntGauge::new("gapura_client_crls_end_timestamp_seconds", end)?;
        registry.register(Box::new(client_crls_end.clone()))?;
        let metrics = Self {
            requests: counter("gapura_requests_total", "Requests answered.", &["route", "method", "status"])?,
            refusals: counter("gapura_refusals_total", "Requests the gateway itself refused.", &["code"])?,
            reloads: counter("gapura_reloads_total", "Configuration reloads.", &["result"])?,
            request_duration: seconds(
                "gapura_request_duration_seconds",
                "From the whole request head to the end of the response.",
                "route",
                0.0001,
            )?,
            stage_duration: seconds("gapura_stage_duration_seconds", "Time within one stage.", "stage", 0.000_001)?,
            upstream_duration: seconds(
                "gapura_upstream_duration_seconds",
                "From sending to an upstream until its response head.",
                "upstream",
                0.0001,
            )?,
            address_refusals: counter(
                "gapura_address_refusals_total",
                "Requests from addresses that a route does not take.",
                &["route", "rule"],
            )?,
            lockouts: counter(
                "gapura_lockouts_total",
                "Addresses locked out, and identities watched, because of failed authentications.",
                &["by"],
            )?,
            dpop_proofs: counter("gapura_dpop_proofs_total", "Proofs of possession (DPoP) by result.", &["result"])?,
            assertions: counter("gapura_assertions_total", "Assertions for upstreams by result.", &["result"])?,
            operation_tokens: counter(
                "gapura_operation_tokens_total",
                "Operation tokens given out, used and refused.",
                &["operation", "result"],
            )?,
            revocations: counter("gapura_revocations_total", "Revocations of tokens.", &["kind"])?,
            streams_ended: counter(
                "gapura_streams_ended_total",
                "WebSockets and event streams that were ended with the credential that opened them.",
                &["kind", "reason"],
            )?,
            lockout_refusals: {
                let name = "gapura_lockout_refusals_total";
                let counter = IntCounter::new(name, "Requests from addresses that were locked out.")?;
                registry.register(Box::new(counter.clone()))?;
                counter
            },
            rate_limit_decisions: counter(
                "gapura_rate_limit_decisions_total",
                "Decisions of rate limits.",
                &["rule", "result"],
            )?,
            rate_limit_overflow: counter(
                "gapura_rate_limit_overflow_total",
                "Decisions on a bucket shared by a network, because the store holds no more keys.",
                &["rule"],
            )?,
            decryptions: counter(
                "gapura_decryptions_total",
                "Request envelopes by result.",
                &["encryption", "result"],
            )?,
            envelopes: counter(
                "gapura_envelopes_total",
                "Request envelopes accepted, by profile.",
                &["encryption", "profile"],
            )?,
            streams_aborted: counter(
                "gapura_envelope_streams_aborted_total",
                "Streamed envelopes that were accepted and then broken off, by reason.",
                &["encryption", "reason"],
            )?,
            connections: gauge("gapura_connections", "Open client connections.", "listener")?,
            in_flight: gauge("gapura_in_flight", "Requests with an upstream, on routes with max_in_flight.", "route")?,
            queued: gauge("gapura_queued", "Requests that wait for one of those to end.", "route")?,
            load,
            client_crls_end,
            shed: counter(
                "gapura_shed_total",
                "Requests refused because limits.max_in_flight is near.",
                &["priority"],
            )?,
            key_fetches: counter(
                "gapura_key_set_fetches_total",
                "Fetches of the key sets of token issuers.",
                &["jwt", "result"],
            )?,
            keys: gauge("gapura_key_set_keys", "Keys in use of a fetched key set.", "jwt")?,
            held_keys: gauge("gapura_api_keys", "API keys of a database, revoked ones too.", "api_keys")?,
            key_lookups: counter(
                "gapura_api_key_lookups_total",
                "Questions to backends about API keys: found, unknown, failed, timeout, skipped in an outage, overloaded.",
                &["api_keys", "result"],
            )?,
            key_lookup_duration: seconds(
                "gapura_api_key_lookup_duration_seconds",
                "From a question to a backend about an API key until its answer.",
                "api_keys",
                0.000_1,
            )?,
            kms_calls: counter(
                "gapura_kms_calls_total",
                "Questions to AWS KMS: success, refused (a no), unavailable (no answer that counts).",
                &["operation", "result"],
            )?,
            kms_duration: seconds(
                "gapura_kms_call_duration_seconds",
                "From a question to AWS KMS until its answer, with repetitions.",
                "operation",
                0.000_5,
            )?,
            kms_keys: gauge(
                "gapura_kms_keys",
                "Keys that AWS KMS lends: valid, or ended and not given again.",
                "state",
            )?,
            store_up: gauge("gapura_store_up", "1 while a shared store is asked, 0 in an outage.", "store")?,
            store_calls: counter(
                "gapura_store_calls_total",
                "Questions to a shared store: answered, failed, late, or skipped in an outage.",
                &["store", "result"],
            )?,
            store_decisions: counter(
                "gapura_store_decisions_total",
                "Decisions of rate limits on shared counters: remote by the store, local by what this instance knows of it.",
                &["store", "place"],
            )?,
            store_duration: seconds(
                "gapura_store_duration_seconds",
                "From a question to a shared store until its answer.",
                "store",
                0.000_02,
            )?,
            registry,
        };
        // From the start at 0: an alert on a rate must see the first one.
        for code in Code::ALL {
            metrics.refusals.with_label_values(&[code.name()]);
        }
        for by in ["address", "identity"] {
            metrics.lockouts.with_label_values(&[by]);
        }
        for kind in ["websocket", "events"] {
            for reason in [Ended::Expired, Ended::Revoked] {
                metrics.streams_ended.with_label_values(&[kind, reason.label()]);
            }
        }
        for result in ["success", "failure"] {
            metrics.reloads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    pub fn refused(&self, code: Code) {
        self.refusals.with_label_values(&[code.name()]).inc();
    }

    /// For metrics that the adapter adds.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing into a String does not fail.
        let _ = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text);
        text
    }
}

/// What clients may put into the label `method`; anything else is `other`.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics of one route. A counter is looked up by its labels once, the first time it counts.
pub struct RouteMetrics {
    route: String,
    requests: IntCounterVec,
    counters: [[OnceLock<IntCounter>; CLASSES.len()]; METHODS.len() + 1],
    pub seconds: Histogram,
}

impl RouteMetrics {
    pub fn new(route: &str, metrics: &Metrics) -> Self {
        Self {
            route: route.to_owned(),
            requests: metrics.requests.clone(),
            counters: Default::default(),
            seconds: metrics.request_duration.with_label_values(&[route]),
        }
    }

    /// `gapura_requests_total`: the label `status` is the class, `2xx`.
    pub fn count(&self, method: &Method, status: StatusCode) {
        let row = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.counters[row][class]
            .get_or_init(|| {
                let method = METHODS.get(row).map_or("other", Method::as_str);
                self.requests.with_label_values(&[&self.route, method, CLASSES[class]])
            })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_whatever_a_client_sends() {
        let metrics = Metrics::new().expect("no two metrics have one name");
        let route = RouteMetrics::new("r", &metrics);
        for method in ["GET", "PURGE", "X-1", "X-2"] {
            route.count(&method.parse().unwrap(), StatusCode::from_u16(799).unwrap());
        }
        let text = metrics.encode();
        assert!(text.contains(r#"gapura_requests_total{method="GET",route="r",status="5xx"} 1"#), "{text}");
        assert!(text.contains(r#"gapura_requests_total{method="other",route="r",status="5xx"} 3"#), "{text}");
        assert!(text.contains(r#"gapura_refusals_total{code="RATE_LIMITED"} 0"#), "{text}");
        assert!(text.contains(r#"gapura_reloads_total{result="failure"} 0"#), "{text}");
        assert!(text.contains(r#"gapura_reloads_total{result="success"} 0"#), "{text}");
    }
}
