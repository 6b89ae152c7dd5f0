use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use super::*;

type Entering<'a> = Pin<Box<dyn Future<Output = Result<Seat, &'static str>> + 'a>>;

fn lane(max: usize) -> Arc<Lane> {
    Arc::new(Lane::new("r", max, &Metrics::new().unwrap()))
}

/// Nobody's patience ends within a test but where it says so.
fn bounds(max: usize, queue: usize) -> Bounds {
    Bounds { max, queue, patience: Duration::from_secs(86_400) }
}

/// Timers need a runtime, though none fires.
fn run<T>(test: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    test()
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn at_once(lane: &Arc<Lane>, bounds: &Bounds) -> Option<Result<Seat, &'static str>> {
    poll(pin!(lane.enter(bounds)))
}

fn counts(lane: &Lane) -> (usize, i64, i64) {
    (lane.state.lock().running, lane.running.get(), lane.waiting.get())
}

#[test]
fn never_more_than_the_bound_and_the_first_come_first() {
    run(|| {
        let (lane, bounds) = (lane(2), bounds(2, 2));
        let one = at_once(&lane, &bounds).unwrap().unwrap();
        let two = at_once(&lane, &bounds).unwrap().unwrap();
        let mut waiting: Vec<Entering<'_>> = (0..2).map(|_| Box::pin(lane.enter(&bounds)) as Entering<'_>).collect();
        assert!(waiting.iter_mut().all(|waiting| poll(waiting.as_mut()).is_none()));
        assert_eq!(at_once(&lane, &bounds).unwrap().err(), Some("max_in_flight is reached and the queue is full"));
        assert_eq!(counts(&lane), (2, 2, 2));
        drop(two);
        assert!(poll(waiting[1].as_mut()).is_none(), "the other came first");
        let third = poll(waiting[0].as_mut()).unwrap().unwrap();
        assert_eq!(counts(&lane), (2, 2, 1));
        assert!(at_once(&lane, &bounds).is_none(), "there is a turn again, given back at once");
        assert_eq!(counts(&lane), (2, 2, 1));
        drop((one, third));
        assert!(poll(waiting[1].as_mut()).unwrap().is_ok());
        assert_eq!(counts(&lane), (0, 0, 0));
    });
}

/// Before it has its place, and when it was handed over and never taken.
#[test]
fn who_leaves_the_queue_takes_no_place_along() {
    run(|| {
        let (lane, bounds) = (lane(1), bounds(1, 3));
        let held = at_once(&lane, &bounds).unwrap().unwrap();
        let mut leaves: Entering<'_> = Box::pin(lane.enter(&bounds));
        let mut handed: Entering<'_> = Box::pin(lane.enter(&bounds));
        let mut last: Entering<'_> = Box::pin(lane.enter(&bounds));
        assert!([&mut leaves, &mut handed, &mut last].into_iter().all(|one| poll(one.as_mut()).is_none()));
        drop(leaves);
        assert_eq!(counts(&lane), (1, 1, 2));
        // Where it stood is free.
        let mut late: Entering<'_> = Box::pin(lane.enter(&bounds));
        assert!(poll(late.as_mut()).is_none());
        drop(held);
        assert!(poll(last.as_mut()).is_none());
        drop(handed);
        drop(poll(last.as_mut()).unwrap().unwrap());
        drop(poll(late.as_mut()).unwrap().unwrap());
        assert_eq!(counts(&lane), (0, 0, 0));
    });
}

/// Those who have left are not kept until it is their turn.
#[test]
fn the_queue_holds_those_who_wait() {
    run(|| {
        let (lane, bounds) = (lane(1), bounds(1, 10));
        let held = at_once(&lane, &bounds).unwrap().unwrap();
        let mut waits: Entering<'_> = Box::pin(lane.enter(&bounds));
        assert!(poll(waits.as_mut()).is_none());
        (0..10_000).for_each(|_| assert!(at_once(&lane, &bounds).is_none()));
        assert!(lane.state.lock().queue.len() < 50);
        drop(held);
        assert!(poll(waits.as_mut()).unwrap().is_ok());
    });
}

#[test]
fn patience_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (lane, bounds) = (lane(1), Bounds { patience: Duration::from_millis(1), ..bounds(1, 1) });
        let held = lane.enter(&bounds).await.unwrap();
        for _ in 0..3 {
            let late = lane.enter(&bounds).await.err();
            assert_eq!(late, Some("max_in_flight is reached, and queue_timeout over"));
        }
        drop(held);
        assert_eq!(counts(&lane), (0, 0, 0));
        assert!(lane.enter(&bounds).await.is_ok());
    });
}

#[test]
fn another_bound_holds_at_once() {
    run(|| {
        let lane = lane(1);
        let bounds = bounds(1, 2);
        let held = at_once(&lane, &bounds).unwrap().unwrap();
        let mut waiting: Vec<Entering<'_>> = (0..2).map(|_| Box::pin(lane.enter(&bounds)) as Entering<'_>).collect();
        assert!(waiting.iter_mut().all(|waiting| poll(waiting.as_mut()).is_none()));
        lane.bound(2);
        assert_eq!(counts(&lane), (2, 2, 1));
        let second = poll(waiting[0].as_mut()).expect("nobody had to leave or to come").unwrap();
        assert!(poll(waiting[1].as_mut()).is_none());
        lane.bound(3);
        let third = poll(waiting[1].as_mut()).expect("nobody had to leave or to come").unwrap();
        // Narrower: nobody comes in until enough have left.
        lane.bound(2);
        assert!(at_once(&lane, &bounds).is_none());
        drop(held);
        assert!(at_once(&lane, &bounds).is_none());
        drop(second);
        assert!(at_once(&lane, &bounds).unwrap().is_ok());
        drop(third);
        assert_eq!(counts(&lane), (0, 0, 0));
    });
}

/// These routes and their bounds.
fn config(routes: &[(&str, Option<u32>)]) -> Config {
    let mut text = String::from("[server]\nplaintext = true\nhttp = [\"127.0.0.1:1\"]\n");
    text.push_str("[upstreams.u]\nservers = [\"127.0.0.1:2\"]\n");
    for (name, max) in routes {
        text.push_str(&format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\nupstream = \"u\"\n"));
        text.push_str(&max.map_or_else(String::new, |max| format!("max_in_flight = {max}\n")));
    }
    gapura_config::parse("test.toml", &text).expect("a sound configuration").config
}

/// A policy that is live.
fn policy(routes: &[(&str, Option<u32>)], before: Option<&Lanes>, metrics: &Metrics) -> Lanes {
    let lanes = Lanes::build(&config(routes), before, metrics);
    lanes.begin();
    lanes
}

/// A bound that is removed and comes back, and a route that does: who came in before and meanwhile is counted.
#[test]
fn what_is_in_flight_is_counted_through_every_reload() {
    run(|| {
        let metrics = Metrics::new().unwrap();
        let enter = |lanes: &Lanes| poll(pin!(lanes.enter("r"))).unwrap().map(|place| place.is_some());
        let keep = |lanes: &Lanes| poll(pin!(lanes.enter("r"))).unwrap().ok().flatten().expect("a place");
        let first = policy(&[("r", Some(2)), ("s", None)], None, &metrics);
        let old = keep(&first);
        let without = policy(&[("r", None), ("s", None)], Some(&first), &metrics);
        drop(first);
        let meanwhile = keep(&without);
        let back = policy(&[("r", Some(2))], Some(&without), &metrics);
        drop(without);
        assert!(enter(&back).is_err(), "two are in flight");
        let gone = policy(&[("s", None)], Some(&back), &metrics);
        drop(back);
        assert_eq!(enter(&gone).ok(), Some(false), "nothing bounds it");
        let back = policy(&[("r", Some(2))], Some(&gone), &metrics);
        assert!(enter(&back).is_err(), "two are in flight");
        assert_eq!(metrics.in_flight.with_label_values(&["r"]).get(), 2);
        drop(old);
        assert_eq!(enter(&back).ok(), Some(true));
        drop(meanwhile);
        assert_eq!(metrics.in_flight.with_label_values(&["r"]).get(), 0);
    });
}

/// Until it is live, a policy changes nothing: its reload may still fail.
#[test]
fn a_policy_that_never_begins_bounds_nothing() {
    run(|| {
        let metrics = Metrics::new().unwrap();
        let live = policy(&[("r", Some(1))], None, &metrics);
        drop(Lanes::build(&config(&[("r", Some(5))]), Some(&live), &metrics));
        let held = poll(pin!(live.enter("r"))).unwrap().ok().flatten();
        assert!(held.is_some() && poll(pin!(live.enter("r"))).unwrap().is_err());
    });
}
