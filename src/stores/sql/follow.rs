//! The task that keeps the keys of a database in memory as they are there, and writes how they were used.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use gapura_filters::{authentication::HeldKeys, metrics::Metrics};
use prometheus::IntGauge;
use tokio::time::{Instant, sleep};

use super::{Database, Listed, Trouble};

/// A change reaches a gateway within twice this.
const POLL: Duration = Duration::from_millis(400);
/// After a failure, doubled with each further one.
const RETRY: Duration = Duration::from_millis(400);
const RETRY_AT_MOST: Duration = Duration::from_secs(10);
/// Uses are written so often: never a write for each request.
const WRITE: Duration = Duration::from_secs(2);

/// Keeps the keys as long as anybody holds them. A second call for the same does nothing.
pub(crate) fn follow(keys: &Arc<HeldKeys>, metrics: &Metrics) {
    if keys.follow() {
        let count = metrics.held_keys.with_label_values(&[keys.method()]);
        tokio::spawn(run(Arc::downgrade(keys), count));
    }
}

async fn run(keys: Weak<HeldKeys>, count: IntGauge) {
    let (mut database, mut seen, mut written) = (None, None, Instant::now());
    let mut pause = RETRY;
    let mut said = false;
    while let Some(keys) = keys.upgrade() {
        let outcome = async {
            let open = match database.take() {
                Some(open) => open,
                None => Database::open(keys.database()).await?,
            };
            read(&open, &keys, &mut seen).await?;
            count.set(i64::try_from(keys.count()).unwrap_or(i64::MAX));
            if written.elapsed() >= WRITE {
                write(&open, &keys).await?;
                written = Instant::now();
            }
            Ok::<_, Trouble>(open)
        };
        match outcome.await {
            Ok(open) => {
                if said {
                    log::info!("{}: {} can be read again", keys.method(), keys.database());
                }
                (database, pause, said) = (Some(open), RETRY, false);
                drop(keys);
                sleep(POLL).await;
            }
            Err(why) => {
                // Of an outage the log hears once.
                if !said {
                    let still = if keys.missing().is_some() { "there are none yet" } else { "those read before stay" };
                    log::warn!("{}: the keys cannot be read: {why}; {still}", keys.method());
                }
                keys.failed(&why.to_string());
                said = true;
                drop(keys);
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_AT_MOST);
            }
        }
    }
}

async fn read(database: &Database, keys: &HeldKeys, seen: &mut Option<i64>) -> Result<(), Trouble> {
    // Before the rows: what changes meanwhile is read once more.
    let version = database.version().await?;
    let after = match *seen {
        Some(seen) if seen == version => return Ok(()),
        // It went back: another database stands there, a backup perhaps.
        Some(seen) if seen < version => seen,
        _ => -1,
    };
    let changed: Vec<_> =
        database.changed(keys.method(), after).await?.into_iter().map(|Listed { key, .. }| key).collect();
    for why in keys.apply(&changed, after < 0) {
        log::warn!("{}: not taken: {why}", keys.method());
    }
    *seen = Some(version);
    Ok(())
}

async fn write(database: &Database, keys: &HeldKeys) -> Result<(), Trouble> {
    let usage = keys.take_usage();
    if usage.is_empty() {
        return Ok(());
    }
    database.used(keys.method(), &usage).await.inspect_err(|_| keys.give_back(&usage))
}
