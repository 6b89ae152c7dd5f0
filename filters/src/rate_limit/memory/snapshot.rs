//! Counters over a restart: written when the process ends, read when the next one begins.
//!
//! A key stands in it as it stands in memory, a keyed hash: no address, no user id, no API key. The hash's secret has to come
//! along, so who reads a snapshot can test guesses; whoever writes it to a file keeps that file to its owner.
//!
//! **Time.** Instants are those of the monotonic clock, which begins anew with each process. Instead of moving every counter,
//! the clock of the next process goes on where the last one stopped, plus the time between as the wall clock has it: never less
//! than nothing, where that was set back, and a millisecond less than it says, which it is rounded to. So no count leaves early.
//!
//! Whatever is wrong with a snapshot, it is refused whole. A counter is checked before it is taken in: sums that do not fit
//! would have to be thought of everywhere else.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use gapura_config::model::{LimitAlgorithm, RateLimit};
use sha2::{Digest, Sha256};

use super::{
    MemoryCounters,
    bank::Bank,
    slab::{Class, Fingerprint, Slab},
    sync::Ordering,
};
use crate::{
    contract::Now,
    rate_limit::algorithm::{Layout, Quota, nanos},
};

/// What every snapshot begins with.
pub const MAGIC: &[u8; 16] = b"gapura counters\n";
const VERSION: u64 = 1;
/// Shorter windows are over before a restart has saved much.
const SHORTEST: Duration = Duration::from_secs(300);
/// Three years of one clock: no process runs so long, and no window reaches so far.
const LATEST: u64 = 1 << 57;
/// Longer names are not in any configuration.
const MAX_NAME: u64 = 1 << 16;

const ALGORITHMS: [LimitAlgorithm; 3] =
    [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra];

/// Counters that go on, and the time at which they do.
pub struct Restored {
    pub counters: MemoryCounters,
    /// What the monotonic clock has to begin with.
    pub monotonic: Duration,
    /// How long ago they were written, as the wall clock has it.
    pub age: Duration,
    pub kept: Amount,
    /// Of rules that are gone, or have another window or algorithm.
    pub dropped: Amount,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub rules: usize,
    pub counters: usize,
}

/// Why a snapshot is not used.
#[derive(Debug)]
pub enum Unusable {
    Unread(io::Error),
    /// The text continues "it …".
    Unfit(&'static str),
}

impl MemoryCounters {
    /// Writes what counts in windows of five minutes and longer.
    pub fn save(&self, now: Now, out: impl Write) -> io::Result<Amount> {
        let mut out = Writing { out, digest: Sha256::new(), buffer: Vec::new() };
        let banks: Vec<Arc<Bank>> =
            self.banks.read().iter().filter(|bank| bank.terms().window >= SHORTEST).cloned().collect();
        out.buffer.extend_from_slice(MAGIC);
        let at = nanos(now.monotonic);
        out.words(&[VERSION, self.secret.0, self.secret.1, at, now.unix_ms, banks.len() as u64])?;
        let mut amount = Amount { rules: banks.len(), counters: 0 };
        for bank in banks {
            let Quota { algorithm, window, .. } = bank.terms();
            let algorithm = ALGORITHMS.iter().position(|known| known == algorithm).unwrap_or_default();
            out.words(&[bank.name().len() as u64, algorithm as u64, nanos(*window), bank.identity()])?;
            out.buffer.extend_from_slice(bank.name().as_bytes());
            bank.each_slab(|slab| {
                let counting = || slab.iter().filter(|(_, counter)| !slab.layout().expired(counter, at));
                let (most, penal) = slab.layout().describe();
                let count = counting().count();
                amount.counters += count;
                out.words(&[most, penal.into(), count as u64])?;
                counting().try_for_each(|(print, counter)| {
                    out.words(&print.words())?;
                    out.words(counter)
                })
            })?;
        }
        out.finish()?;
        Ok(amount)
    }

    /// Reads what [`Self::save`] wrote, for the rules of a configuration. `unix_ms` is the present.
    pub fn restore(
        max_keys: usize,
        rules: &BTreeMap<String, RateLimit>,
        unix_ms: u64,
        from: impl Read,
    ) -> Result<Restored, Unusable> {
        let mut from = Reading { from, digest: Sha256::new() };
        if from.bytes(MAGIC.len())? != MAGIC {
            return Err(Unusable::Unfit("is no snapshot of counters"));
        }
        let [version] = from.words()?;
        if version != VERSION {
            return Err(Unusable::Unfit("was written by another version of the gateway"));
        }
        let [low, high, at, written, banks] = from.words()?;
        let age = Duration::from_millis(unix_ms.saturating_sub(written).saturating_sub(1));
        let monotonic = Duration::from_nanos(at).saturating_add(age);
        if at > LATEST || nanos(monotonic) > LATEST {
            return Err(Unusable::Unfit("is of another age"));
        }
        let counters = Self { secret: (low, high), ..Self::new(max_keys) };
        let (mut kept, mut dropped) = (Amount::default(), Amount::default());
        for _ in 0..banks {
            let (bank, amount) = from.bank(at)?;
            let rule = rules.get(bank.name()).and_then(|rule| Quota::new(rule).ok());
            let into = match rule.filter(|quota| bank.serves(bank.name(), quota)) {
                Some(_) => {
                    // What counts goes on counting, though there be less room now.
                    counters.room.add(&bank);
                    counters.banks.write().push(Arc::new(bank));
                    &mut kept
                }
                None => &mut dropped,
            };
            *into = Amount { rules: into.rules + 1, counters: into.counters + amount };
        }
        from.finish()?;
        Ok(Restored { counters, monotonic, age, kept, dropped })
    }
}

impl super::Room {
    fn add(&self, bank: &Bank) {
        let (keys, networks) = bank.counted();
        self.keys.fetch_add(keys, Ordering::Relaxed);
        self.networks.fetch_add(networks, Ordering::Relaxed);
        self.rules.fetch_add(1, Ordering::Relaxed);
    }
}

/// Little endian words, and behind them all the SHA-256 of what stands before it.
struct Writing<W> {
    out: W,
    digest: Sha256,
    buffer: Vec<u8>,
}

/// Written in pieces of so many bytes: a digest and a file want more than a word at a time.
const PIECE: usize = 64 * 1024;

impl<W: Write> Writing<W> {
    fn words(&mut self, words: &[u64]) -> io::Result<()> {
        for word in words {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.digest.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.write_all(&self.digest.finalize())?;
        self.out.flush()
    }
}

/// Never allocates what a length only claims: it grows with what has been read.
struct Reading<R> {
    from: R,
    digest: Sha256,
}

impl<R: Read> Reading<R> {
    fn bank(&mut self, at: u64) -> Result<(Bank, usize), Unusable> {
        let [name, algorithm, window, identity] = self.words()?;
        let algorithm = usize::try_from(algorithm).ok().and_then(|index| ALGORITHMS.get(index));
        let (Some(&algorithm), ..=MAX_NAME, 1..=LATEST) = (algorithm, name, window) else { return Err(UNSOUND) };
        let name = String::from_utf8(self.bytes(name as usize)?).map_err(|_| UNSOUND)?;
        let window = Duration::from_nanos(window);
        let terms = |limit| Quota { algorithm, limit, window, burst: 1, penalty: Duration::ZERO };
        let bank = Bank::new(&name, &terms(1), identity);
        let mut amount = 0;
        for place in 0..Bank::SLABS {
            let [most, penal, count] = self.words()?;
            let penalty = Duration::from_secs(penal);
            if penal > 1 || algorithm == LimitAlgorithm::SlidingLog && most > RateLimit::MAX_LOG {
                return Err(UNSOUND);
            }
            let mut slab = Slab::new(Layout::new(&Quota { penalty, ..terms(most) }));
            let layout = slab.layout();
            let mut counter = vec![0; layout.words()];
            for _ in 0..count {
                let [low, high] = self.words()?;
                self.fill(&mut counter)?;
                let print = Fingerprint::of(low, high).filter(|&print| Bank::place(print) == place).ok_or(UNSOUND)?;
                if !layout.is_sound(&counter, at) || slab.find(print).is_some() {
                    return Err(UNSOUND);
                }
                slab.insert(print).ok_or(UNSOUND)?.copy_from_slice(&counter);
                amount += 1;
            }
            bank.put(place, slab);
        }
        Ok((bank, amount))
    }

    fn words<const N: usize>(&mut self) -> Result<[u64; N], Unusable> {
        let mut words = [0; N];
        self.fill(&mut words)?;
        Ok(words)
    }

    fn fill(&mut self, words: &mut [u64]) -> Result<(), Unusable> {
        let bytes = self.bytes(words.len() * 8)?;
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Unusable> {
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Unusable> {
        self.from.read_exact(bytes).map_err(|why| match why.kind() {
            io::ErrorKind::UnexpectedEof => Unusable::Unfit("ends too early"),
            _ => Unusable::Unread(why),
        })
    }

    fn finish(mut self) -> Result<(), Unusable> {
        let mut told = [0; 32];
        self.exactly(&mut told)?;
        if self.digest.finalize()[..] != told {
            return Err(Unusable::Unfit("does not have the checksum that it says"));
        }
        match self.from.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Unusable::Unfit("goes on behind its end")),
            Err(why) => Err(Unusable::Unread(why)),
        }
    }
}

const UNSOUND: Unusable = Unusable::Unfit("holds what no counter can be");

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(why) => write!(f, "it cannot be read: {why}"),
            Self::Unfit(why) => write!(f, "it {why}"),
        }
    }
}

impl Bank {
    /// Of clients' keys, and of networks.
    pub(super) fn counted(&self) -> (usize, usize) {
        let (mut keys, mut networks) = (0, 0);
        let count = |slab: &Slab| {
            for (print, _) in slab.iter() {
                match print.class() {
                    Class::Key => keys += 1,
                    Class::Network => networks += 1,
                    Class::Fixed => {}
                }
            }
            Ok(())
        };
        let _: io::Result<()> = self.each_slab(count);
        (keys, networks)
    }
}

#[cfg(all(test, not(model)))]
mod tests;
