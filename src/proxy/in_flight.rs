//! How many exchanges of one route may be with its upstream at once: `max_in_flight`, and a bounded queue before it.
//!
//! A place belongs to the exchange and is given back when it is dropped: at its end, when the client leaves, when its task is
//! cancelled. It then goes to who has waited longest. So is a turn in the queue.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use gapura_config::model::{Config, Priority, Route};
use gapura_filters::{
    contract::{Code, Refusal},
    metrics::Metrics,
};
use http::{HeaderValue, header::RETRY_AFTER};
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::{sync::oneshot, time::timeout};

use super::load::{Load, Share};

/// What bounds the routes: a lane of their own, and the load of all.
pub(crate) struct Lanes {
    routes: HashMap<String, Way>,
    load: Option<Load>,
    known: Known,
}

/// The lanes of all policies that are in use, by the names of their routes. A route that is gone and comes back finds its own
/// again as long as one of its requests is in flight: in a new one they would not count.
type Known = Arc<Mutex<HashMap<String, Weak<Lane>>>>;

struct Way {
    lane: Option<(Arc<Lane>, Bounds)>,
    priority: Priority,
}

/// Lives on through reloads, so that what is in flight keeps its place.
struct Lane {
    state: Mutex<State>,
    running: IntGauge,
    waiting: IntGauge,
}

struct State {
    running: usize,
    /// Of the policy that is live.
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
pub(super) struct Place {
    _seat: Option<Seat>,
    _share: Option<Share>,
}

/// A place in the lane of the route.
struct Seat(Arc<Lane>);

impl Lanes {
    /// Those of `before` go on. Nothing changes for them until [`Self::begin`].
    pub(crate) fn build(config: &Config, before: Option<&Self>, metrics: &Metrics) -> Self {
        let load = Load::build(config, before.and_then(|before| before.load.as_ref()), metrics);
        let known = before.map_or_else(Known::default, |before| Arc::clone(&before.known));
        let mut lanes = known.lock();
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let mut way = |route: &Route| {
            let lane = lanes.get(&route.name).and_then(Weak::upgrade);
            let lane = match (lane, route.max_in_flight) {
                // Without a bound it goes on counting: whoever comes in now is there when the bound comes back.
                (Some(lane), max) => Some((lane, max.map_or(usize::MAX, |max| max as usize))),
                (None, Some(max)) => {
                    let lane = Arc::new(Lane::new(&route.name, max as usize, metrics));
                    lanes.insert(route.name.clone(), Arc::downgrade(&lane));
                    Some((lane, max as usize))
                }
                (None, None) => None,
            };
            let lane = lane.map(|(lane, max)| {
                let (queue, patience) = (route.queue as usize, route.queue_timeout.get());
                (lane, Bounds { max, queue, patience })
            });
            let bounded = lane.is_some() || load.is_some();
            bounded.then(|| (route.name.clone(), Way { lane, priority: route.priority }))
        };
        let routes = config.routes.iter().filter_map(&mut way).collect();
        drop(lanes);
        Self { routes, load, known }
    }

    /// The policy is live: its bounds hold, and those whom a wider one has room for need not wait until somebody leaves.
    pub(crate) fn begin(&self) {
        for (lane, bounds) in self.routes.values().filter_map(|way| way.lane.as_ref()) {
            lane.bound(bounds.max);
        }
    }

    /// Whether the gateway as a whole has room for one of this route, before anything is spent on it.
    pub(super) fn check(&self, route: &str) -> Result<(), Refusal> {
        match (&self.load, self.routes.get(route)) {
            (Some(load), Some(way)) => load.check(way.priority),
            _ => Ok(()),
        }
    }

    /// None: nothing bounds the route.
    pub(super) async fn enter(&self, route: &str) -> Result<Option<Place>, Refusal> {
        let Some(way) = self.routes.get(route) else { return Ok(None) };
        let seat = match &way.lane {
            Some((lane, bounds)) => Some(lane.enter(bounds).await.map_err(|why| refuse(route, bounds, why))?),
            None => None,
        };
        // Last, for who waits in a lane is no load yet.
        let share = self.load.as_ref().map(|load| load.enter(way.priority)).transpose()?;
        Ok(Some(Place { _seat: seat, _share: share }))
    }
}

fn refuse(route: &str, bounds: &Bounds, why: &str) -> Refusal {
    let seconds = bounds.patience.as_secs() + u64::from(bounds.patience.subsec_nanos() > 0);
    Refusal::new(Code::Overloaded, "Too many requests are being served; try again later.")
        .reason(format!("route {route}: {why}"))
        .header(RETRY_AFTER, HeaderValue::from(seconds.max(1)))
}

impl Lane {
    fn new(route: &str, max: usize, metrics: &Metrics) -> Self {
        Self {
            state: Mutex::new(State { running: 0, max, queue: VecDeque::new(), waiting: 0 }),
            running: metrics.in_flight.with_label_values(&[route]),
            waiting: metrics.queued.with_label_values(&[route]),
        }
    }

    fn bound(&self, max: usize) {
        let mut state = self.state.lock();
        state.max = max;
        state.call();
        self.show(&state);
    }

    async fn enter(self: &Arc<Self>, bounds: &Bounds) -> Result<Seat, &'static str> {
        let mut turn = {
            let mut state = self.state.lock();
            if state.running < state.max {
                state.running += 1;
                self.show(&state);
                return Ok(Seat(Arc::clone(self)));
            }
            if state.waiting >= bounds.queue {
                return Err("max_in_flight is reached and the queue is full");
            }
            let called = state.wait();
            self.show(&state);
            Turn { lane: self, called, taken: false }
        };
        match timeout(bounds.patience, &mut turn.called).await {
            Ok(Ok(())) => {
                turn.taken = true;
                Ok(Seat(Arc::clone(self)))
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

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.leave();
        self.0.show(&state);
    }
}

#[cfg(test)]
mod tests;
