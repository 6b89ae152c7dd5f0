//! Every metric, declared once. Labels are enums or names from the configuration, so their number is bounded.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// The metrics of one process. Filters take the counters they need when they are built, so that counting is one atomic add.
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub refusals: IntCounterVec,
    pub reloads: IntCounterVec,
    pub request_duration: HistogramVec,
    pub stage_duration: HistogramVec,
    pub upstream_duration: HistogramVec,
    pub rate_limit_decisions: IntCounterVec,
    pub rate_limit_overflow: IntCounterVec,
    pub decryptions: IntCounterVec,
    pub connections: IntGaugeVec,
    pub store_up: IntGaugeVec,
    pub store_calls: IntCounterVec,
    pub store_duration: HistogramVec,
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
        Ok(Self {
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
            connections: gauge("gapura_connections", "Open client connections.", "listener")?,
            store_up: gauge("gapura_store_up", "1 while a shared store is asked, 0 in an outage.", "store")?,
            store_calls: counter(
                "gapura_store_calls_total",
                "Questions to a shared store: answered, failed, late, or skipped in an outage.",
                &["store", "result"],
            )?,
            store_duration: seconds(
                "gapura_store_duration_seconds",
                "From a question to a shared store until its answer.",
                "store",
                0.000_02,
            )?,
            registry,
        })
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
