//! How many exchanges of one route may be with its upstream at once: `max_in_flight`, and a bounded queue before it.
//!
//! A place belongs to the exchange and is given back when it is dropped: at its end, when the client leaves, when its task is
//! cancelled. It then goes to who has waited longest. So is a turn in the queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use gapura_config::model::{Config, Route};
use gapura_filters::{
    contract::{Code, Refusal},
    metrics::Metrics,
};
use http::{HeaderValue, header::RETRY_AFTER};
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{sync::oneshot, time::timeout};

/// The lanes of all routes that have one, by name.
#[derive(Default)]
pub(crate) struct Lanes(HashMap<String, (Arc<Lane>, Bounds)>);

/// Lives on through reloads, so that what is in flight keeps its place.
struct Lane {
    state: Mutex<State>,
    running: IntGauge,
    waiting: IntGauge,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Of the policy that asked last.
    max: usize,
    /// The first to come first; those who have left stand among them until it is their turn.
    queue: VecDeque<oneshot::Sender<()>>,
    /// Those of the queue who have not left.
    waiting: usize,
}

/// A turn in the queue.
struct Turn<'a> {
    lane: &'a Lane,
    called: oneshot::Receiver<()>,
    taken: bool,
}

#[derive(Debug, Clone, Copy)]
struct Bounds {
    max: usize,
    queue: usize,
    patience: Duration,
}

/// The right to be with the upstream.
pub(super) struct Place(Arc<Lane>);

impl Lanes {
    /// Those of `before` go on.
    pub(crate) fn build(config: &Config, before: Option<&Self>, metrics: &Metrics) -> Self {
        let lane = |route: &Route| {
            let known = before.and_then(|before| before.0.get(&route.name));
            let lane = known.map_or_else(|| Arc::new(Lane::new(&route.name, metrics)), |(lane, _)| Arc::clone(lane));
            let (queue, patience) = (route.queue as usize, route.queue_timeout.get());
            Some((route.name.clone(), (lane, Bounds { max: route.max_in_flight? as usize, queue, patience })))
        };
        Self(config.routes.iter().filter_map(lane).collect())
    }

    /// None: the route has no bound.
    pub(super) async fn enter(&self, route: &str) -> Result<Option<Place>, Refusal> {
        let Some((lane, bounds)) = self.0.get(route) else { return Ok(None) };
        lane.enter(bounds).await.map(Some).map_err(|why| {
            let seconds = bounds.patience.as_secs() + u64::from(bounds.patience.subsec_nanos() > 0);
            Refusal::new(Code::Overloaded, "Too many requests are being served; try again later.")
                .reason(format!("route {route}: {why}"))
                .header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
        })
    }
}

impl Lane {
    fn new(route: &str, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::default(),
            running: metrics.in_flight.with_label_values(&[route]),
            waiting: metrics.queued.with_label_values(&[route]),
        }
    }

    async fn enter(self: &Arc<Self>, bounds: &Bounds) -> Result<Place, &'static str> {
        let mut turn = {
            let mut state = self.state.lock();
            state.max = bounds.max;
            // A reload may have made room.
            state.call();
            if state.running < state.max {
                state.running += 1;
                self.show(&state);
                return Ok(Place(Arc::clone(self)));
            }
            if state.waiting >= bounds.queue {
                self.show(&state);
                return Err("max_in_flight is reached and the queue is full");
            }
            let called = state.wait();
            self.show(&state);
            Turn { lane: self, called, taken: false }
        };
        match timeout(bounds.patience, &mut turn.called).await {
            Ok(Ok(())) => {
                turn.taken = true;
                Ok(Place(Arc::clone(self)))
            }
            _ => Err("max_in_flight is reached, and queue_timeout over"),
        }
    }

    fn show(&self, state: &State) {
        self.running.set(state.running as i64);
        self.waiting.set(state.waiting as i64);
    }
}

impl State {
    fn wait(&mut self) -> oneshot::Receiver<()> {
        if self.queue.len() > 2 * self.waiting + 16 {
            self.queue.retain(|turn| !turn.is_closed());
        }
        let (turn, called) = oneshot::channel();
        self.queue.push_back(turn);
        self.waiting += 1;
        called
    }

    /// Free places go to those who have waited longest.
    fn call(&mut self) {
        while self.running < self.max
            && let Some(turn) = self.queue.pop_front()
        {
            // Else it has left, and said so.
            if turn.send(()).is_ok() {
                self.waiting -= 1;
                self.running += 1;
            }
        }
    }

    fn leave(&mut self) {
        self.running -= 1;
        self.call();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        // Under the lock nobody is called meanwhile.
        let mut state = self.lane.state.lock();
        self.called.close();
        match self.called.try_recv() {
            // Called, and gone before it heard.
            Ok(()) => state.leave(),
            Err(_) => state.waiting -= 1,
        }
        self.lane.show(&state);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.leave();
        self.0.show(&state);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Place, &'static str>> + 'a>>;

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

    fn at_once(lane: &Arc<Lane>, bounds: &Bounds) -> Option<Result<Place, &'static str>> {
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
            let mut waiting: Vec<Entering<'_>> =
                (0..2).map(|_| Box::pin(lane.enter(&bounds)) as Entering<'_>).collect();
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
}
