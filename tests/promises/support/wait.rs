//! Waiting on conditions. The deadline is generous, as it only decides how long a broken promise takes to be reported.

use std::{
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The longest anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Asks until there is an answer. Fails with `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "waited {DEADLINE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// [`until`], for what is only true or false.
#[track_caller]
pub fn until_true(what: &str, mut ask: impl FnMut() -> bool) {
    until(what, || ask().then_some(()));
}

/// Closed until a test opens it: how a scripted upstream waits for what the test does next.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Gives up after the deadline, so that a failed test does not leave a thread behind for ever.
    pub fn wait(&self) {
        let opened = self.0.0.lock().unwrap();
        let _opened = self.0.1.wait_timeout_while(opened, DEADLINE, |open| !*open).unwrap();
    }
}
