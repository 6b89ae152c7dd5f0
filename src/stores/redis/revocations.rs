//! Revoked tokens of all instances: each writes its own through, and looks every [`POLL`] whether there are new ones.
//!
//! One small question tells that nothing is new: the version, whose number each change raises. Only what has a higher number than the
//! version seen last is read then. A connection that is new reads all, and writes what Redis lacks of it: so a Redis that came back empty, or a
//! replica that took over without the last writes, is told by every instance what it should know, and a revocation that could not
//! be written is written then. During an outage each instance keeps what it holds.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gapura_config::model::OnOutage;
use gapura_filters::authentication::{
    MAX_REVOCATIONS, RevocationEntry, RevocationMark, Revocations as Held, Unpublished,
};
use redis::{ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{counters::Script, link::Link, road::Road, servers::Servers};

/// All keys stand in one slot: one script writes them together.
const TAG: &str = "revocations";
const KEYS: [&str; 4] = [
    "gapura:{revocations}:version",
    "gapura:{revocations}:changes",
    "gapura:{revocations}:marks",
    "gapura:{revocations}:ends",
];
/// Between looks. What is revoked elsewhere is known here after this and the time to read it.
pub(super) const POLL: Duration = Duration::from_millis(200);
/// Before there was one: the start waits for it.
const FIRST: Duration = Duration::from_millis(20);
/// Each question of a look; a hundred thousand are read and written in hundreds of them.
const STEP: Duration = Duration::from_secs(1);
/// With `on_outage = "closed"`: without a look that succeeded for so long it is not known any more what is revoked.
const KNOWN_MS: u64 = 2000;
/// With any other: so long a start waits for the first look.
const AT_FIRST: Duration = Duration::from_secs(1);
/// Read and written in one question: a millisecond of Redis' time.
const PAGE: usize = 500;
/// A call of the operator may take longer than a request.
const ATTEMPTS: usize = 3;

pub(super) struct Revocations {
    held: Arc<Held>,
    script: Script,
    /// Something could not be written.
    owing: Notify,
    closed: bool,
}

/// As Redis spells it: `NAME NUMBER`, or empty.
type Version = String;

/// What was seen, and where.
#[derive(Default)]
struct Seen {
    link: Weak<Link>,
    connection: u64,
    version: Version,
}

impl Revocations {
    pub(super) fn new(on_outage: OnOutage) -> Self {
        let (held, closed) = (Arc::<Held>::default(), on_outage == OnOutage::Closed);
        held.known_until(0);
        Self { held, script: Script::new(include_str!("revoke.lua")), owing: Notify::new(), closed }
    }

    pub(super) fn held(&self) -> &Arc<Held> {
        &self.held
    }

    pub(super) async fn publish(&self, servers: &Servers, entry: &RevocationEntry) -> Result<(), Unpublished> {
        let arguments = arguments(std::slice::from_ref(entry));
        for _ in 0..ATTEMPTS {
            let question = async |connection: Road| self.script.run(connection, &KEYS, &arguments).await;
            match servers.ask::<u64, _>(TAG, question).await {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(Unpublished::Full),
                Err(_) => {}
            }
        }
        self.owing.notify_one();
        Err(Unpublished::Silent)
    }

    /// Looks again and again. Ends with the store: it is aborted.
    pub(super) async fn follow(self: Arc<Self>, servers: Servers) {
        let (mut seen, mut said) = (Seen::default(), false);
        let (begun, mut looked) = (Instant::now(), false);
        loop {
            if let Some(link) = servers.link(TAG) {
                match self.look(&link, &mut seen).await {
                    Some(Ok(())) => {
                        (looked, said) = (true, false);
                        let lasts = if self.closed { now_ms() + KNOWN_MS } else { u64::MAX };
                        self.held.known_until(lasts);
                    }
                    // There is no connection: it is an outage, of which the log has heard.
                    None => {}
                    Some(Err(fault)) => {
                        seen = Seen::default();
                        link.heard(&fault);
                        // So it is where one breaks. Anything else lasts: the user may not read them, say.
                        if !said && !fault.is_io_error() {
                            said = true;
                            let fault = link.spelled(&fault);
                            log::warn!("Redis at {}: revocations are not shared: {fault}", link.server());
                        }
                    }
                }
            }
            if !self.closed && begun.elapsed() >= AT_FIRST {
                self.held.known_until(u64::MAX);
            }
            tokio::select! {
                () = self.owing.notified() => seen = Seen::default(),
                () = sleep(if looked { POLL } else { FIRST }) => {}
            }
        }
    }

    /// None: there is no connection.
    async fn look(&self, link: &Arc<Link>, seen: &mut Seen) -> Option<RedisResult<()>> {
        let (mut connection, number) = link.numbered()?;
        let same = number == seen.connection && seen.link.upgrade().is_some_and(|before| Arc::ptr_eq(&before, link));
        let looked = async {
            let version = version(&mut connection).await?;
            if same && version == seen.version {
                return Ok(version);
            }
            let after = if same { since(&version, &seen.version) } else { None };
            let read = self.read(&mut connection, after.unwrap_or(0)).await?;
            // Where all was read it is known what Redis lacks.
            if after.is_none() {
                self.write(&connection, &read).await?;
            }
            Ok(version)
        };
        Some(looked.await.map(|version| *seen = Seen { link: Arc::downgrade(link), connection: number, version }))
    }

    /// What has changed after this number is held from now on.
    async fn read(
        &self,
        connection: &mut MultiplexedConnection,
        mut after: u64,
    ) -> RedisResult<HashMap<RevocationMark, RevocationEntry>> {
        let mut all = HashMap::new();
        loop {
            let mut page = redis::cmd("ZRANGEBYSCORE");
            page.arg(KEYS[1]).arg(format!("({after}")).arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(0).arg(PAGE);
            let page: Vec<(Vec<u8>, f64)> = within(page.query_async(connection)).await?;
            let Some((_, last)) = page.last() else { return Ok(all) };
            after = *last as u64;
            let mut marks = redis::cmd("HMGET");
            marks.arg(KEYS[2]);
            for (mark, _) in &page {
                marks.arg(&mark[..]);
            }
            let said: Vec<Option<String>> = within(marks.query_async(connection)).await?;
            let entries = page.iter().zip(&said).filter_map(|((mark, _), said)| entry(mark, said.as_deref()?));
            let entries: Vec<_> = entries.collect();
            self.held.learn(&entries, now_ms());
            all.extend(entries.into_iter().map(|entry| (entry.mark, entry)));
        }
    }

    /// What is held here, and not in Redis, or as less.
    async fn write(
        &self,
        connection: &MultiplexedConnection,
        known: &HashMap<RevocationMark, RevocationEntry>,
    ) -> RedisResult<()> {
        let lacks = |entry: &RevocationEntry| {
            let known = known.get(&entry.mark);
            known.is_none_or(|known| known.issued_until < entry.issued_until || known.until < entry.until)
        };
        let lacking: Vec<_> = self.held.entries(now_ms()).into_iter().filter(lacks).collect();
        for page in lacking.chunks(PAGE) {
            let refused: u64 = within(self.script.run(connection.clone(), &KEYS, &arguments(page))).await?;
            if refused > 0 {
                log::error!("Redis holds {MAX_REVOCATIONS} revocations: {refused} of this instance are not shared");
            }
        }
        Ok(())
    }
}

async fn version(connection: &mut MultiplexedConnection) -> RedisResult<Version> {
    let mut question = redis::cmd("GET");
    let version: Option<Version> = within(question.arg(KEYS[0]).query_async(connection)).await?;
    Ok(version.unwrap_or_default())
}

async fn within<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    let late = |_| RedisError::from((ErrorKind::Io, "no answer in time"));
    timeout(STEP, answer).await.map_err(late)?
}

/// The number of the version seen last, where the one that is now came after it. None: it is another memory, or has forgotten.
fn since(version: &str, seen: &str) -> Option<u64> {
    let split = |version: &str| {
        let (name, number) = version.split_once(' ')?;
        Some((name.to_owned(), number.parse::<u64>().ok()?))
    };
    let ((name, number), (before, seen)) = (split(version)?, split(seen)?);
    (name == before && number >= seen).then_some(seen)
}

/// See `revoke.lua`.
fn arguments(entries: &[RevocationEntry]) -> Vec<Vec<u8>> {
    let name = format!("{:032x}", rand::random::<u128>());
    let mut arguments = vec![name.into_bytes(), MAX_REVOCATIONS.to_string().into_bytes()];
    for RevocationEntry { mark, issued_until, until } in entries {
        let numbers = [*issued_until, *until].map(|number| number.max(0).to_string().into_bytes());
        arguments.push(mark.to_vec());
        arguments.extend(numbers);
    }
    arguments
}

/// None: it is none of ours.
fn entry(mark: &[u8], said: &str) -> Option<RevocationEntry> {
    let (issued_until, until) = said.split_once(' ')?;
    let mark = mark.try_into().ok()?;
    Some(RevocationEntry { mark, issued_until: issued_until.parse().ok()?, until: until.parse().ok()? })
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_memory_goes_on() {
        assert_eq!(since("ab 7", "ab 5"), Some(5));
        for (version, seen) in [("ab 4", "ab 5"), ("cd 7", "ab 5"), ("", "ab 5"), ("ab 7", ""), ("x", "x")] {
            assert_eq!(since(version, seen), None, "{version:?} after {seen:?}");
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        let mark = [1; 17];
        let of = |said| entry(&mark, said);
        assert_eq!(of("5 7"), Some(RevocationEntry { mark, issued_until: 5, until: 7 }));
        assert_eq!([of("5"), of("5 x"), entry(b"short", "5 7")], [None; 3]);
    }
}
