//! A Redis Cluster: one connection, one keeper and one breaker for each primary.
//!
//! The cluster client of redis-rs puts all questions through one task, and while it looks for a primary that has gone, those to
//! the others wait, too. Here a primary that dies is an outage of its own keys only, and costs the others nothing. Which primary has
//! which slots is asked in the background: when one is lost, when one says that keys have moved, and now and then.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{ConnectionInfo, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    Duties, address, keeper,
    link::{self, Link, Origin},
    meters::Meters,
};

pub(super) const SLOTS: u16 = 16384;
/// How long one node is waited for that is asked where the slots are.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between questions where the slots are: while a primary is away, from the first to the second of these; else the third.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
const QUIET: Duration = Duration::from_secs(30);
/// Questions that follow each other at once come from nodes that contradict each other.
const LEAST: Duration = Duration::from_millis(20);

pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    map: ArcSwap<Map>,
    stale: Arc<Notify>,
    secrets: Arc<[String]>,
    budget: Duration,
    meters: Arc<Meters>,
}

/// Which primary has which slot.
#[derive(Default)]
struct Map {
    primaries: Vec<Arc<Primary>>,
    /// For each slot one more than the place in `primaries`, or 0.
    slots: Vec<u16>,
}

struct Primary {
    name: String,
    link: Arc<Link>,
    keeper: OnceLock<AbortHandle>,
}

/// First and last slot of a range, and who has it.
type Range = (u16, u16, String, u16);

impl Cluster {
    pub(super) fn new(
        seeds: Vec<ConnectionInfo>,
        secrets: Arc<[String]>,
        budget: Duration,
        meters: Arc<Meters>,
    ) -> Self {
        // Until it is known where the slots are.
        meters.begin();
        Self { seeds, map: ArcSwap::default(), stale: Arc::default(), secrets, budget, meters }
    }

    /// Who has the slot, as far as is known.
    pub(super) fn link(&self, slot: u16) -> Option<Arc<Link>> {
        let map = self.map.load();
        let place = map.slots.get(usize::from(slot)).copied().unwrap_or(0);
        Some(map.primaries.get(usize::from(place).checked_sub(1)?)?.link.clone())
    }

    /// The node that another one has named.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Link>> {
        let map = self.map.load();
        map.primaries.iter().find(|primary| primary.name == name).map(|primary| primary.link.clone())
    }

    /// Follows the cluster. Ends with the store: it is aborted.
    pub(super) async fn follow(self: Arc<Self>, duties: Arc<Duties>) {
        let (mut known, mut said, mut pause) = (false, false, PAUSES.0);
        loop {
            match self.survey().await {
                Ok(ranges) => {
                    self.install(&ranges, &duties);
                    if !known {
                        self.meters.came();
                    }
                    (known, said) = (true, false);
                }
                Err(fault) if said => log::debug!("Redis: no node says where the slots are: {fault}"),
                Err(fault) => {
                    let seeds: Vec<_> = self.seeds.iter().map(address::spelled).collect();
                    log::warn!(
                        "Redis at {} cannot be asked: no node says where the slots are: {fault}",
                        seeds.join(", ")
                    );
                    said = true;
                }
            }
            sleep(LEAST).await;
            let well = known && !said && self.meters.all_up();
            pause = if well { PAUSES.0 } else { (pause * 2).min(PAUSES.1) };
            let pause = if well { QUIET } else { pause.mul_f64(0.5 + rand::random::<f64>()) };
            tokio::select! {
                () = self.stale.notified() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Lets go of all connections: keepers hold the cluster, and the cluster holds them.
    pub(super) fn leave(&self) {
        self.map.store(Arc::default());
    }

    /// Asks one node after the other; those first that have answered last.
    async fn survey(&self) -> Result<Vec<Range>, String> {
        let map = self.map.load_full();
        for primary in &map.primaries {
            let host = primary.name.rsplit_once(':').map_or("", |(host, _)| host);
            if let Some(connection) = primary.link.connection()
                && let Ok(Ok(ranges)) = timeout(PATIENCE, ask(connection, host)).await
            {
                return Ok(ranges);
            }
        }
        let mut fault = "it gives no answer in time".to_owned();
        for seed in &self.seeds {
            let host = seed.addr().to_string();
            let host = host.rsplit_once(':').map_or("", |(host, _)| host);
            let asked = async { ask(link::connect(seed.clone()).await?, host).await };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(ranges)) => return Ok(ranges),
                Ok(Err(wrong)) => {
                    fault =
                        self.secrets.iter().fold(wrong.to_string(), |text, secret| text.replace(secret.as_str(), "…"));
                }
                Err(_late) => {}
            }
        }
        Err(fault)
    }

    /// Keeps what is there: a primary that stays one keeps its connection.
    fn install(self: &Arc<Self>, ranges: &[Range], duties: &Arc<Duties>) {
        let before = self.map.load_full();
        let (mut primaries, mut slots) = (Vec::<Arc<Primary>>::new(), vec![0; usize::from(SLOTS)]);
        for (first, last, host, port) in ranges {
            let name = format!("{host}:{port}");
            let place = primaries.iter().position(|primary| primary.name == name).or_else(|| {
                let known = before.primaries.iter().find(|primary| primary.name == name).cloned();
                primaries.push(known.or_else(|| self.primary(&name, host, *port))?);
                Some(primaries.len() - 1)
            });
            if let Some(place) = place {
                let range = usize::from(*first)..=usize::from((*last).min(SLOTS - 1));
                slots[range].fill(place as u16 + 1);
            }
        }
        for (place, primary) in primaries.iter().enumerate() {
            if let Some(tag) = tag_in(|slot| usize::from(slots[usize::from(slot)]) == place + 1) {
                primary.link.set_tag(tag);
            }
        }
        self.map.store(Arc::new(Map { primaries: primaries.clone(), slots }));
        duties.replays.wake();
        // Not before: what a keeper settles first is that of the slots of its primary.
        for primary in primaries {
            let begin = || {
                let (cluster, link) = (Arc::clone(self), Arc::clone(&primary.link));
                let mine = move |slot| cluster.link(slot).is_some_and(|other| Arc::ptr_eq(&other, &link));
                tokio::spawn(keeper::keep(primary.link.clone(), duties.clone(), mine)).abort_handle()
            };
            primary.keeper.get_or_init(begin);
        }
    }

    fn primary(&self, name: &str, host: &str, port: u16) -> Option<Arc<Primary>> {
        let server = address::beside(self.seeds.first()?, host, port).ok()?;
        let spelled = address::spelled(&server);
        let terms = (self.secrets.clone(), self.budget);
        let link = Link::new(Origin::Server(server), spelled, terms, Some(self.stale.clone()), self.meters.clone());
        Some(Arc::new(Primary { name: name.to_owned(), link: Arc::new(link), keeper: OnceLock::new() }))
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

/// `CLUSTER SLOTS` of a node at `host`.
async fn ask(mut connection: MultiplexedConnection, host: &str) -> RedisResult<Vec<Range>> {
    let answer: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    Ok(answer.iter().filter_map(|range| read(range, host)).collect())
}

/// First slot, last slot, the primary, its replicas. A node that does not know its own address leaves it out.
fn read(range: &[Value], asked: &str) -> Option<Range> {
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = range else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host = match host {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::SimpleString(host) => host.clone(),
        _ => String::new(),
    };
    let host = if host.is_empty() || host == "?" { asked.to_owned() } else { host };
    Some((u16::try_from(*first).ok()?, u16::try_from(*last).ok()?, host, u16::try_from(*port).ok()?))
}

/// A hash tag in one of the slots.
fn tag_in(mine: impl Fn(u16) -> bool) -> Option<Arc<str>> {
    let mut seen = HashSet::new();
    // More than all slots: each of them is met by then.
    (0..300_000_u32)
        .map(|number| format!("probe{number}"))
        .find(|tag| {
            let slot = slot(tag);
            seen.insert(slot) && mine(slot)
        })
        .map(Arc::from)
}

/// CRC-16/XMODEM of what stands between the braces, as Redis computes it.
pub(super) fn slot(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the specification of Redis Cluster, and from `CLUSTER KEYSLOT`.
    #[test]
    fn a_slot_is_that_of_redis() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("foo"), 12182);
        assert_eq!(slot(""), 0);
        assert_eq!(slot(&tag_in(|slot| slot == 16000).unwrap()), 16000);
    }

    #[test]
    fn what_a_node_says_is_read_and_what_is_no_range_is_not() {
        let host = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range =
            |host, port| vec![Value::Int(0), Value::Int(5460), Value::Array(vec![host, Value::Int(port), Value::Nil])];
        assert_eq!(read(&range(host("10.0.0.1"), 6379), "seed"), Some((0, 5460, "10.0.0.1".to_owned(), 6379)));
        assert_eq!(read(&range(host(""), 6379), "seed"), Some((0, 5460, "seed".to_owned(), 6379)));
        assert_eq!(read(&range(Value::Nil, 6379), "seed"), Some((0, 5460, "seed".to_owned(), 6379)));
        assert_eq!(read(&range(host("a"), -1), "seed"), None);
        assert_eq!(read(&[Value::Int(0)], "seed"), None);
    }
}
