//! How strong the envelopes of callers were, for all instances: a key for each strength that a caller has shown, so that one
//! instance never lowers what another has written.
//!
//! Without an answer each instance decides by its own memory, or, with `on_outage = "closed"`, lets no weaker envelope pass.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::encryption::{CallerId, Known};

use super::{hex, link::Down, road::Road, servers::Servers};

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
        let question = async |mut connection: Road| {
            let mut set = redis::cmd("SET");
            set.arg(key(&tag, strength)).arg(1).arg("EX").arg(keep.as_secs());
            set.query_async::<()>(&mut connection).await
        };
        servers.ask(&tag, question).await.is_ok()
    }

    pub(super) async fn strongest(&self, servers: &Servers, id: CallerId, above: u8, most: u8) -> Known {
        let tag = hex("", &id);
        match (self.find(servers, &tag, above, most).await, self.on_outage) {
            (Ok(strength), _) => Known::Strength(strength),
            (Err(_), OnOutage::Closed) => Known::Refused("Redis does not answer, and on_outage is \"closed\""),
            (Err(_), OnOutage::Local | OnOutage::Open) => Known::Unknown,
        }
    }

    /// A question for each key: while a slot moves some of them may still be at the old server, and others at the new one.
    async fn find(&self, servers: &Servers, tag: &str, above: u8, most: u8) -> Result<u8, Down> {
        for strength in (above + 1..=most).rev() {
            let name = key(tag, strength);
            let question = async |mut connection: Road| redis::cmd("GET").arg(&name).query_async(&mut connection).await;
            let shown: Option<u8> = servers.ask(tag, question).await?;
            if shown.is_some() {
                return Ok(strength);
            }
        }
        Ok(0)
    }
}

/// All of one caller in one slot of a Cluster.
fn key(tag: &str, strength: u8) -> String {
    format!("gapura:downgrade:{{{tag}}}:{strength}")
}
