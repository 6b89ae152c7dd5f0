//! The task that keeps the connection: it connects, tests, hands over, and begins anew when the breaker has opened.

use std::{sync::Arc, time::Duration};

use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::{counters, link::Link, replays::Replays};

/// Between attempts: from the first to the second of these, twice as long each time.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// A connection that lasted so long was a good one. After one that did not, the pause goes on growing: a Redis which answers
/// now and then is not to be tried ten times a second.
const STEADY: Duration = Duration::from_secs(10);
/// A quiet gateway asks at least this often, so that the first request of the morning does not find the connection dead.
const QUIET: Duration = Duration::from_secs(5);

/// Ends with the store: it is aborted.
pub(super) async fn keep(link: Arc<Link>, replays: Arc<Replays>) {
    let mut pause = PAUSES.0;
    // Of an outage the log hears once: by the breaker, or, where Redis was never there, of the first attempt.
    let mut said = false;
    loop {
        match connect(&link, &replays).await {
            Ok(connection) => {
                let since = Instant::now();
                attend(&link, &replays, connection).await;
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
async fn connect(link: &Link, replays: &Replays) -> Result<MultiplexedConnection, String> {
    let connection = link.dial(counters::probe).await?;
    replays.settle(connection.clone()).await?;
    Ok(connection)
}

/// As long as the connection lasts.
async fn attend(link: &Link, replays: &Replays, connection: MultiplexedConnection) {
    link.publish(connection.clone());
    loop {
        tokio::select! {
            () = link.lost() => return,
            // A single question that was late leaves something owed, too.
            () = replays.owing() => if replays.settle(connection.clone()).await.is_err() {
                sleep(PAUSES.0).await;
            },
            // Its failure counts with those of requests.
            () = sleep(QUIET) => { let _ = link.ask(counters::probe).await; }
        }
    }
}
