//! How strong the envelopes of callers were, for all instances: a key for each strength that a caller has shown, so that one
//! instance never lowers what another has written.
//!
//! Without an answer each instance decides by its own memory, or, with `on_outage = "closed"`, lets no weaker envelope pass.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::encryption::{CallerId, Known};
use redis::{Pipeline, aio::MultiplexedConnection};

use super::{hex, servers::Servers};

pub(super) struct Downgrades {
    on_outage: OnOutage,
}

impl Downgrades {
    pub(super) fn new(on_outage: OnOutage) -> Self {
        Self { on_outage }
    }

    /// False: there is no answer.
    pub(super) async fn tell(&self, servers: &Servers, id: CallerId, strength: u8, keep: Duration) -> bool {
        let tag = hex("", &id);
        let question = async |mut connection: MultiplexedConnection| {
            let mut set = redis::cmd("SET");
            set.arg(key(&tag, strength)).arg(1).arg("EX").arg(keep.as_secs());
            set.query_async::<()>(&mut connection).await
        };
        servers.ask(&tag, question).await.is_ok()
    }

    pub(super) async fn strongest(&self, servers: &Servers, id: CallerId, above: u8, most: u8) -> Known {
        let tag = hex("", &id);
        let question = async |mut connection: MultiplexedConnection| {
            let mut pipeline = Pipeline::new();
            for strength in above + 1..=most {
                pipeline.cmd("GET").arg(key(&tag, strength));
            }
            pipeline.query_async::<Vec<Option<u8>>>(&mut connection).await
        };
        match (servers.ask(&tag, question).await, self.on_outage) {
            (Ok(found), _) => {
                let shown = (above + 1..=most).zip(found).filter(|(_, found)| found.is_some());
                Known::Strength(shown.map(|(strength, _)| strength).max().unwrap_or(0))
            }
            (Err(_), OnOutage::Closed) => Known::Refused("Redis does not answer, and on_outage is \"closed\""),
            (Err(_), OnOutage::Local | OnOutage::Open) => Known::Unknown,
        }
    }
}

/// All of one caller in one slot of a Cluster.
fn key(tag: &str, strength: u8) -> String {
    format!("gapura:downgrade:{{{tag}}}:{strength}")
}
