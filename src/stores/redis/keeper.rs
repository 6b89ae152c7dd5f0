//! The task that keeps a connection: it connects, tests, hands over, and begins anew when the breaker has opened.

use std::{sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Duties, counters, link::Link};

/// Between attempts: from the first to the second of these, twice as long each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A connection that lasted so long was a good one. After one that did not, the pause goes on growing: a Redis which answers
/// now and then is not to be tried ten times a second.
const STEADY: Duration = Duration::from_secs(10);
/// What this instance counted for itself is added so often, and first of all.
const SETTLE: Duration = Duration::from_secs(1);
/// A quiet gateway asks at least this often, so that the first request of the morning does not find the connection dead.
const QUIET: Duration = Duration::from_secs(5);

/// Ends with the store, or with the primary of a Cluster that is none any more: it is aborted. `mine` are the slots of its server.
pub(super) async fn keep(link: Arc<Link>, duties: Arc<Duties>, mine: impl Fn(u16) -> bool) {
    let mut pause = PAUSES.0;
    // Of an outage the log hears once: by the breaker, or, where Redis was never there, of the first attempt.
    let mut said = false;
    loop {
        match connect(&link, &duties, &mine).await {
            Ok(connection) => {
                let since = Instant::now();
                attend(&link, &duties, connection, &mine).await;
                said = true;
                if since.elapsed() >= STEADY {
                    pause = PAUSES.0;
                }
            }
            Err(fault) if said => log::debug!("Redis at {} still cannot be asked: {fault}", link.server()),
            Err(fault) => {
                log::warn!("Redis at {} cannot be asked: {fault}", link.server());
                said = true;
            }
        }
        // Instances that lost it together do not come back together.
        sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Before anyone else asks, what was accepted meanwhile is written: it must not be accepted again.
async fn connect(link: &Link, duties: &Duties, mine: &impl Fn(u16) -> bool) -> Result<MultiplexedConnection, String> {
    let tag = link.tag();
    let connection = link.dial(|connection| counters::probe(connection, tag)).await?;
    duties.replays.settle(connection.clone(), mine).await?;
    Ok(connection)
}

/// As long as the connection lasts.
async fn attend(link: &Link, duties: &Duties, connection: MultiplexedConnection, mine: &impl Fn(u16) -> bool) {
    link.publish(connection.clone());
    let (mut settle, mut probe) = (interval(SETTLE), interval(QUIET));
    for timer in [&mut settle, &mut probe] {
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    probe.reset();
    loop {
        tokio::select! {
            biased;
            () = link.lost() => return,
            // A single question that was late leaves something owed, too.
            () = duties.replays.owing(mine) => if duties.replays.settle(connection.clone(), mine).await.is_err() {
                sleep(PAUSES.0).await;
            },
            // Its failure counts with those of requests.
            _ = probe.tick() => {
                let tag = link.tag();
                let _ = link.ask(|connection| counters::probe(connection, tag)).await;
            }
            _ = settle.tick() => duties.ledger.settle(link, &duties.counters, mine).await,
        }
    }
}
