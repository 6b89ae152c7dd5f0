//! Do refusals tell by their time what was wrong? Two kinds of bad message each, through the filter as a route runs it, judged as
//! dudect does (Reparaz, Balasch, Verbauwhede 2017): the kinds in random order, the slowest tenth of all cut, Welch's t. |t| above
//! 4.5 says that time tells the two apart, at this number of samples, for somebody who measures inside the process.
//!
//! Reported, never asserted: a busy machine would fail it. Before each sample the bytes of both kinds are read and those of one are
//! written, to one place: buffers of their own would give each kind a time of its own. `control` compares a kind with itself.
//!
//! `cargo bench -p gapura-filters --bench timing -- [WORD]`: what has the word in its name.

mod messages;

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gapura_filters::contract::{Code, Exchange, Filter, Now, Principal, UserId};
use http::{HeaderValue, Request, request, uri::PathAndQuery};

use self::messages::{AUTHORITY, EMAIL, Kind, NOW, Pair, TARGET, TOKEN_ID, USER, pairs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let word = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for pair in pairs().into_iter().filter(|pair| pair.name.contains(&word)) {
        let (times, text) = (measure(&pair), format!("{}: {} / {}", pair.name, pair.kinds[0].name, pair.kinds[1].name));
        let (means, t) = welch(times);
        println!("{text}: {:.1} / {:.1} ns, |t| = {:.1} of {} samples", means[0], means[1], t.abs(), pair.samples);
    }
}

/// The times of each kind, in nanoseconds.
fn measure(pair: &Pair) -> [Vec<f64>; 2] {
    let heads = pair.kinds.each_ref().map(head);
    let [first, second] = pair.kinds.each_ref().map(|kind| &kind.body);
    assert_eq!(first.len(), second.len(), "a length tells by itself");
    let mut chosen = vec![0; first.len()];
    let mut times: [Vec<f64>; 2] = Default::default();
    for round in 0..pair.samples + pair.samples / 10 {
        let kind = usize::from(rand::random::<bool>());
        let mask = black_box(0_u8.wrapping_sub(kind as u8));
        for (byte, (first, second)) in chosen.iter_mut().zip(first.iter().zip(second)) {
            *byte = first ^ (mask & (first ^ second));
        }
        let mut both = heads.clone();
        both.swap(0, black_box(kind));
        let [mut head, _other] = both;
        let mut exchange = exchange();
        let mut body = Bytes::copy_from_slice(&chosen);
        let begun = Instant::now();
        let outcome = black_box(ready(pair.filter.on_request_body(&mut head, &mut body, &mut exchange)));
        let took = begun.elapsed().as_nanos() as f64;
        let refusal = outcome.expect_err("it is refused");
        assert_eq!(refusal.code, Code::DecryptionFailed, "{}: {refusal:?}", pair.name);
        // Before that, caches and predictors are still learning.
        if round >= pair.samples / 10 {
            times[kind].push(took);
        }
    }
    times
}

/// Both means, and Welch's t.
fn welch(times: [Vec<f64>; 2]) -> ([f64; 2], f64) {
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let limit = all[all.len() * 9 / 10];
    let [(n0, m0, v0), (n1, m1, v1)] = times.map(|times| {
        let kept: Vec<f64> = times.into_iter().filter(|time| *time <= limit).collect();
        let n = kept.len() as f64;
        let mean = kept.iter().sum::<f64>() / n;
        (n, mean, kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0))
    });
    ([m0, m1], (m0 - m1) / (v0 / n0 + v1 / n1).sqrt())
}

fn head(kind: &Kind) -> request::Parts {
    let mut request = Request::post("/").header("content-length", kind.body.len());
    for (name, value) in &kind.fields {
        request = request.header(*name, value.as_str());
    }
    request.body(()).expect("a request").into_parts().0
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(Now { monotonic: Duration::ZERO, unix_ms: NOW }, [127, 0, 0, 1].into());
    exchange.authority = HeaderValue::from_static(AUTHORITY);
    exchange.secure = true;
    exchange.target = PathAndQuery::from_static(TARGET);
    exchange.principal = Some(Arc::new(Principal {
        method: "jwt.users".into(),
        user_id: UserId::string(USER),
        email: Some(EMAIL.into()),
        roles: Vec::new(),
        permissions: Vec::new(),
        api_key: None,
        token_id: Some(TOKEN_ID.into()),
        limits: Default::default(),
        claims: Default::default(),
    }));
    exchange
}

/// Nothing in the filter waits while its memory of replays is local.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the memory store answers at once"),
    }
}
