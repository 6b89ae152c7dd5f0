//! What one decision costs, how many there are in a second, and how much memory a key takes.
//!
//! A decision is the whole filter as a route runs it: key, fingerprint, lock, counter, metrics. Run it with
//! `cargo bench -p gapura-filters --bench rate_limit`.

use std::{
    alloc::System,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use criterion::Criterion;
use gapura_config::{
    model::{LimitAlgorithm, LimitKey, RateLimit},
    units::Period,
};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Stage},
    metrics::Metrics,
    rate_limit::{CounterStore, MemoryCounters, RateLimits},
};
use http::{HeaderMap, Request, request};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MILLION: u32 = 1_000_000;

fn main() {
    allocations();
    bytes_per_key();
    throughput();
    lowest();
    let mut criterion = Criterion::default().configure_from_args();
    hot_key(&mut criterion);
    million_keys(&mut criterion);
    response_fields(&mut criterion);
    criterion.final_summary();
}

/// A route with one rule by address, and one request that asks it again and again.
struct Gate {
    filter: RateLimits,
    head: request::Parts,
}

impl Gate {
    fn new(algorithm: LimitAlgorithm, limit: u64) -> Self {
        let rule = RateLimit { algorithm, ..RateLimit::new(limit, Period::secs(60), LimitKey::ClientIp) };
        let store = CounterStore::Memory(Arc::new(MemoryCounters::new(2 * MILLION as usize)));
        let metrics = Metrics::new().expect("metrics have unique names");
        let filter = RateLimits::over("payments", &[("general", &rule)], Stage::ClientLimits, &store, &metrics);
        let head = Request::new(()).into_parts().0;
        Self { filter: filter.expect("the rule is sound").expect("it belongs to this stage"), head }
    }

    fn ask(&self, client: u32, now: Duration) -> (bool, Exchange) {
        let now = Now { monotonic: now, unix_ms: 0 };
        let mut exchange = Exchange::new(now, IpAddr::V4(Ipv4Addr::from_bits(client)));
        let passed = match pin!(self.filter.on_request(&self.head, &mut exchange))
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(outcome) => outcome.is_ok(),
            Poll::Pending => unreachable!("memory does not wait"),
        };
        (passed, exchange)
    }

    fn filled(self) -> Self {
        (0..MILLION).for_each(|client| drop(self.ask(client, Duration::from_secs(1))));
        self
    }
}

/// Clients in an order that no cache foresees.
struct Clients(u32);

impl Iterator for Clients {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(((u64::from(self.0) * u64::from(MILLION)) >> 32) as u32)
    }
}

/// A known key costs none.
fn allocations() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let gate = Gate::new(algorithm, 4000);
        gate.ask(1, Duration::from_secs(1));
        let region = Region::new(ALLOCATOR);
        let passed = (0..100_000).filter(|ms| gate.ask(1, Duration::from_millis(1000 + 20 * ms)).0).count();
        println!("{algorithm:?}: {} allocations in {passed} decisions on a known key", region.change().allocations);
    }
}

fn bytes_per_key() {
    for (algorithm, limit, keys) in [
        (LimitAlgorithm::SlidingWindow, 100, MILLION),
        (LimitAlgorithm::SlidingWindow, 1_000, MILLION),
        (LimitAlgorithm::SlidingWindow, 1_000_000, MILLION),
        (LimitAlgorithm::SlidingWindow, 1_000_000_000, MILLION),
        (LimitAlgorithm::SlidingLog, 100, MILLION / 10),
        (LimitAlgorithm::Gcra, 100, MILLION),
    ] {
        let region = Region::new(ALLOCATOR);
        let gate = Gate::new(algorithm, limit);
        let idle = region.change();
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        for client in 0..keys {
            let begun = Instant::now();
            gate.ask(client, Duration::from_secs(1));
            slowest = slowest.max(begun.elapsed());
        }
        let (took, held) = (begun.elapsed(), region.change());
        let bytes = |stats: &stats_alloc::Stats| stats.bytes_allocated - stats.bytes_deallocated;
        println!(
            "{algorithm:?}, limit {limit}: {} bytes per key at {keys} keys ({} KiB idle); {} ns per new key, slowest {slowest:?}",
            (bytes(&held) - bytes(&idle)) / keys as usize,
            bytes(&idle) / 1024,
            took.as_nanos() / u128::from(keys),
        );
    }
}

/// Two threads, as fast as they can.
fn throughput() {
    for (name, spread) in [("a million keys", true), ("one key each", false)] {
        let gate = Gate::new(LimitAlgorithm::SlidingWindow, if spread { 100 } else { 1_000_000_000 });
        let gate = if spread { gate.filled() } else { gate };
        let (length, begun) = (Duration::from_secs(3), Instant::now());
        let decisions: u64 = thread::scope(|scope| {
            let run = |seed: u32| {
                let gate = &gate;
                scope.spawn(move || {
                    let mut decisions = 0;
                    let mut clients = Clients(seed);
                    while begun.elapsed() < length {
                        let now = Duration::from_secs(2) + begun.elapsed();
                        for _ in 0..1000 {
                            let client = if spread { clients.next().unwrap_or(0) } else { seed };
                            black_box(gate.ask(client, now));
                            decisions += 1;
                        }
                    }
                    decisions
                })
            };
            let threads = [1, 2_000_000_001].map(run);
            threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        });
        println!(
            "{name}: {:.1} million decisions/s on 2 threads",
            decisions as f64 / begun.elapsed().as_secs_f64() / 1e6
        );
    }
}

/// Name, algorithm, limit, and µs between two requests.
const HOT: [(&str, LimitAlgorithm, u64, u64); 5] = [
    // One each millisecond and a bit: the counter is as full as it can be without refusing.
    ("sliding_window", LimitAlgorithm::SlidingWindow, 60_000, 1_050),
    ("sliding_window sparse", LimitAlgorithm::SlidingWindow, 100, 1_000_000),
    ("sliding_log", LimitAlgorithm::SlidingLog, 4_000, 16_000),
    ("gcra", LimitAlgorithm::Gcra, 60_000, 1_050),
    ("refused", LimitAlgorithm::SlidingWindow, 100, 0),
];

const MANY: [(&str, LimitAlgorithm, u64); 3] = [
    ("sliding_window 100", LimitAlgorithm::SlidingWindow, 100),
    ("sliding_window 1000", LimitAlgorithm::SlidingWindow, 1000),
    ("gcra", LimitAlgorithm::Gcra, 100),
];

/// The best of many short rounds: what a decision costs where other work on the machine does not count. To compare two versions by.
fn lowest() {
    let of = |what: &str, run: &mut dyn FnMut()| {
        let round = |_| {
            let begun = Instant::now();
            (0..2000).for_each(|_| run());
            begun.elapsed().as_nanos() / 2000
        };
        println!("{what}: {} ns, the lowest of 400 rounds", (0..400).map(round).min().unwrap_or(0));
    };
    for (name, algorithm, limit, step) in HOT {
        let (gate, mut now) = (Gate::new(algorithm, limit), Duration::from_secs(1));
        of(&format!("hot key, {name}"), &mut || {
            now += Duration::from_micros(step);
            black_box(gate.ask(black_box(1), now));
        });
    }
    for (name, algorithm, limit) in MANY {
        let (gate, mut clients, mut now) = (Gate::new(algorithm, limit).filled(), Clients(7), Duration::from_secs(2));
        of(&format!("a million keys, {name}"), &mut || {
            now += Duration::from_micros(1);
            black_box(gate.ask(clients.next().unwrap_or(0), now));
        });
    }
}

fn hot_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hot key");
    for (name, algorithm, limit, step) in HOT {
        let gate = Gate::new(algorithm, limit);
        let mut now = Duration::from_secs(1);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                now += Duration::from_micros(step);
                gate.ask(black_box(1), now)
            });
        });
    }
    group.finish();
}

fn million_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a million keys");
    for (name, algorithm, limit) in MANY {
        let gate = Gate::new(algorithm, limit).filled();
        let mut clients = Clients(7);
        let mut now = Duration::from_secs(2);
        group.bench_function(name, |bench| {
            bench.iter(|| {
                now += Duration::from_micros(1);
                gate.ask(clients.next().unwrap_or(0), now)
            });
        });
    }
    group.finish();
}

fn response_fields(criterion: &mut Criterion) {
    let gate = Gate::new(LimitAlgorithm::SlidingWindow, 100);
    let (_, mut exchange) = gate.ask(1, Duration::from_secs(1));
    let mut fields = HeaderMap::with_capacity(16);
    criterion.bench_function("response fields", |bench| {
        bench.iter(|| gate.filter.on_response_headers(&mut fields, &mut exchange));
    });
}
