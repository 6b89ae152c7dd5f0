use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use super::*;

type Entering<'a> = Pin<Box<dyn Future<Output = Result<Seat, &'static str>> + 'a>>;

fn lane() -> Arc<Lane> {
    Arc::new(Lane::new("r", &Metrics::new().unwrap()))
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
        let (lane, bounds) = (lane(), bounds(2, 2));
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
        let (lane, bounds) = (lane(), bounds(1, 3));
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
        let (lane, bounds) = (lane(), bounds(1, 10));
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
        let (lane, bounds) = (lane(), Bounds { patience: Duration::from_millis(1), ..bounds(1, 1) });
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
fn another_bound_holds_for_who_comes_after_it() {
    run(|| {
        let lane = lane();
        let narrow = bounds(1, 1);
        let held = at_once(&lane, &narrow).unwrap().unwrap();
        let mut waiting: Entering<'_> = Box::pin(lane.enter(&narrow));
        assert!(poll(waiting.as_mut()).is_none());
        let wide = bounds(3, 0);
        let third = at_once(&lane, &wide).unwrap().unwrap();
        let second = poll(waiting.as_mut()).expect("room for who has waited, too").unwrap();
        assert!(at_once(&lane, &wide).unwrap().is_err());
        // Narrower: nobody comes in until enough have left.
        assert!(at_once(&lane, &bounds(2, 0)).unwrap().is_err());
        drop(held);
        assert!(at_once(&lane, &bounds(2, 0)).unwrap().is_err());
        drop(second);
        assert!(at_once(&lane, &bounds(2, 0)).unwrap().is_ok());
        drop(third);
        assert_eq!(counts(&lane), (0, 0, 0));
    });
}
