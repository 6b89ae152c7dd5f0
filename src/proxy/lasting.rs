//! What outlives the check of its caller: sockets and event streams. They end when their credential does.
//!
//! One task for all looks every [`LOOK`] whether anything was revoked or changed, and wakes them only then; each sleeps until its own
//! credential expires. So an open socket costs nothing while nothing happens.

use std::{future::pending, sync::Arc, time::Duration};

use gapura_filters::{
    authentication::{Ended, Tenures},
    contract::Clock,
};
use tokio::{sync::watch, time::sleep};

use crate::wiring::Gateway;

const LOOK: Duration = Duration::from_millis(100);
/// The wall clock may be set meanwhile, so no sleep is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Wakes whoever waits for a change.
pub(crate) struct Changes(watch::Sender<u64>);

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

/// As long as the process.
pub(crate) async fn watch(gateway: Arc<Gateway>) {
    loop {
        sleep(LOOK).await;
        let services = &gateway.services;
        let now = services.revocations.generation().wrapping_add(services.held_keys.generation());
        gateway.changes.0.send_if_modified(|seen| std::mem::replace(seen, now) != now);
    }
}

/// Until the caller may not go on. For ever where nobody was asked who calls.
pub(super) async fn until_ended(gateway: Arc<Gateway>, tenures: Tenures) -> Ended {
    if tenures.is_empty() {
        return pending().await;
    }
    let mut changes = gateway.changes.0.subscribe();
    loop {
        // Before the question: what changes after it wakes the next one.
        changes.borrow_and_update();
        let now_ms = gateway.clock.now().unix_ms;
        if let Some(ended) = tenures.ended(now_ms) {
            return ended;
        }
        let left =
            tenures.until_ms().map_or(u64::MAX, |until| u64::try_from(until).unwrap_or(0).saturating_sub(now_ms));
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return pending().await;
            },
            () = sleep(Duration::from_millis(left).min(LONGEST)) => {}
        }
    }
}
