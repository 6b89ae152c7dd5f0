//! Rate limits: one script call for all rules of a request; in a Cluster one for those of the same key.

use std::{sync::Arc, time::Duration};

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Counted, Demand, Quota, Verdict};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use sha2::{Digest, Sha256};

use super::{
    hex,
    link::{Down, Link},
    meters::Meters,
    servers::Servers,
    together::together,
};

/// Where one server has all keys, one script decides all rules of a request.
const ONE_TAG: &str = "limits";

pub(super) struct Counters {
    charge: Script,
    refund: Script,
}

/// Known to Redis by its hash, once it has seen the text.
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

/// A rule's numbers as the scripts take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    algorithm: &'static str,
    pub(super) limit: u64,
    pub(super) numbers: [u64; 2],
}

/// A counter in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    /// Of all counters that one script may decide together: in a Cluster they stand in one slot, which the braces choose.
    pub(super) tag: Arc<str>,
    hash: [u8; 16],
}

/// What a script is told of one rule.
pub(super) struct Charge<'a> {
    pub(super) name: &'a Name,
    pub(super) terms: &'a Terms,
    pub(super) cost: u64,
    pub(super) binding: bool,
    pub(super) penalty: Duration,
}

/// A charge that is given back: `cost` of it, made under the instant `at`.
pub(super) struct Given {
    pub(super) name: Name,
    pub(super) terms: Terms,
    pub(super) cost: u64,
    pub(super) at: u64,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self { charge: Script::new(include_str!("charge.lua")), refund: Script::new(include_str!("refund.lua")) }
    }

    /// One answer for each, in order; None where there is none. All that agree are charged, or none where one that binds refuses:
    /// those with one tag by one script, those with several in calls side by side, and what was charged is given back.
    pub(super) async fn charge(
        &self,
        (servers, meters): (&Servers, &Meters),
        demands: &[Demand<'_>],
    ) -> Vec<Option<Counted>> {
        let named: Vec<(Name, Terms)> = demands.iter().map(|demand| named(servers, demand)).collect();
        let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
        for (place, (name, _)) in named.iter().enumerate() {
            match groups.iter_mut().find(|(tag, _)| **tag == *name.tag) {
                Some((_, group)) => group.push(place),
                None => groups.push((&name.tag, vec![place])),
            }
        }
        let asked = groups.iter().map(|(tag, group)| {
            let charges: Vec<_> = group.iter().map(|&place| charge_of(&demands[place], &named[place])).collect();
            async move { self.ask(servers, tag, &charges).await }
        });
        let answers = together(asked.collect()).await;

        let mut counted = vec![None; demands.len()];
        let mut refused = vec![false; groups.len()];
        for (index, ((_, group), answer)) in groups.iter().zip(answers).enumerate() {
            for (&place, answer) in group.iter().zip(answer.unwrap_or_default()) {
                refused[index] |= demands[place].binding && !answer.verdict.allowed;
                counted[place] = Some(answer);
                meters.there.inc();
            }
        }
        if refused.contains(&true) {
            let mut charged = Vec::new();
            for &place in
                groups.iter().zip(&refused).filter(|(_, refused)| !**refused).flat_map(|((_, group), _)| group)
            {
                if let Some(counted) = counted[place].as_mut().filter(|counted| counted.verdict.allowed) {
                    counted.verdict.remaining += demands[place].cost;
                    charged.push((demands[place], counted.at));
                }
            }
            self.refund(servers, &charged).await;
        }
        counted
    }

    /// One script call.
    pub(super) async fn ask(&self, servers: &Servers, tag: &str, charges: &[Charge<'_>]) -> Result<Vec<Counted>, Down> {
        let (keys, arguments) = arguments(charges);
        let question = async |connection: MultiplexedConnection| {
            let reply: Vec<i64> = self.charge.run(connection, &keys, &arguments).await?;
            counted(&reply, charges.len())
        };
        servers.ask(tag, question).await
    }

    /// The same of one server.
    pub(super) async fn ask_at(&self, link: &Link, charges: &[Charge<'_>]) -> Result<Vec<Counted>, Down> {
        let (keys, arguments) = arguments(charges);
        let question = async |connection: MultiplexedConnection| {
            let reply: Vec<i64> = self.charge.run(connection, &keys, &arguments).await?;
            counted(&reply, charges.len())
        };
        link.ask(question).await
    }

    pub(super) async fn refund(&self, servers: &Servers, charged: &[(Demand<'_>, u64)]) {
        let given = charged.iter().map(|(demand, at)| {
            let (name, terms) = named(servers, demand);
            Given { name, terms, cost: demand.cost, at: *at }
        });
        self.give(servers, &given.collect::<Vec<_>>()).await;
    }

    /// What cannot be given back is over with its window.
    pub(super) async fn give(&self, servers: &Servers, given: &[Given]) {
        let mut groups: Vec<(Arc<str>, Vec<String>, Vec<String>)> = Vec::new();
        for Given { name, terms, cost, at } in given {
            let group = match groups.iter().position(|(tag, ..)| *tag == name.tag) {
                Some(group) => group,
                None => {
                    groups.push((name.tag.clone(), Vec::new(), Vec::new()));
                    groups.len() - 1
                }
            };
            let (_, keys, arguments) = &mut groups[group];
            keys.push(name.spelled());
            // See `refund.lua`.
            arguments.push(terms.algorithm.to_owned());
            let [first, second] = terms.numbers;
            arguments.extend([*cost, *at, first, second].map(|number| number.to_string()));
        }
        let refunds = groups.iter().map(async |(tag, keys, arguments)| {
            let question = async |connection: MultiplexedConnection| {
                self.refund.run::<redis::Value>(connection, keys, arguments).await
            };
            servers.ask(tag, question).await
        });
        together(refunds.collect()).await;
    }
}

/// What Redis is asked before requests are: whether it answers in time, and whether the user may run scripts that write.
pub(super) async fn probe(connection: MultiplexedConnection, tag: Arc<str>) -> RedisResult<()> {
    let terms = Terms { algorithm: "sliding_window", limit: 1_000_000_000, numbers: [50_000, 21] };
    let name = Name { tag, hash: [0; 16] };
    let charge = Charge { name: &name, terms: &terms, cost: 1, binding: true, penalty: Duration::ZERO };
    let (keys, arguments) = arguments(&[charge]);
    let reply: Vec<i64> = Script::new(include_str!("charge.lua")).run(connection, &keys, &arguments).await?;
    counted(&reply, 1).map(drop)
}

/// The counter of a demand, and its numbers.
pub(super) fn named(servers: &Servers, demand: &Demand<'_>) -> (Name, Terms) {
    let terms = Terms::of(demand.quota);
    let tag = if servers.are_several() { tag(demand.key) } else { ONE_TAG.into() };
    let hash = hash(demand, &terms);
    (Name { tag, hash }, terms)
}

fn charge_of<'a>(demand: &Demand<'_>, (name, terms): &'a (Name, Terms)) -> Charge<'a> {
    Charge { name, terms, cost: demand.cost, binding: demand.binding, penalty: demand.quota.penalty }
}

/// In a Cluster: rules that count by the same key stand together.
fn tag(key: &[u8]) -> Arc<str> {
    hex("", &Sha256::digest(key)[..4]).into()
}

impl Name {
    pub(super) fn spelled(&self) -> String {
        hex(&format!("gapura:{{{}}}:", self.tag), &self.hash)
    }

    /// Evenly spread.
    pub(super) fn first(&self) -> u8 {
        self.hash[0]
    }
}

/// Keys, and seven arguments for each rule: see `charge.lua`.
fn arguments(charges: &[Charge<'_>]) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut arguments) = (Vec::new(), Vec::new());
    for Charge { name, terms, cost, binding, penalty } in charges {
        let counter = name.spelled();
        let penalty = if penalty.is_zero() { 0 } else { micros(*penalty) };
        let penal = (penalty > 0).then(|| format!("{counter}:penalty"));
        keys.push(counter);
        keys.extend(penal);
        arguments.push(terms.algorithm.to_owned());
        let [first, second] = terms.numbers;
        let numbers = [*cost, terms.limit, first, second, u64::from(*binding), penalty];
        arguments.extend(numbers.map(|number| number.to_string()));
    }
    (keys, arguments)
}

/// Rule, algorithm, window and key name the counter, as in memory. They are hashed, 128 bits of SHA-256: a key is an address or
/// a user id, which is nobody's business who may list keys in Redis, and may be 1 KiB long.
fn hash(demand: &Demand<'_>, terms: &Terms) -> [u8; 16] {
    let mut hash = Sha256::new();
    // The layout depends on these; ticks of `gcra` are long where its numbers are absurd.
    let unit = if demand.quota.algorithm == LimitAlgorithm::Gcra { terms.numbers[1] } else { 0 };
    for part in [demand.rule.as_bytes(), terms.algorithm.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(demand.quota.window.as_nanos().to_le_bytes());
    hash.update(unit.to_le_bytes());
    hash.update(demand.key);
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    first
}

/// Four numbers for each verdict. Anything else comes from a server that is not Redis.
pub(super) fn counted(reply: &[i64], rules: usize) -> RedisResult<Vec<Counted>> {
    let (verdicts, rest) = reply.as_chunks::<4>();
    if verdicts.len() != rules || !rest.is_empty() || reply.iter().any(|&number| number < 0) {
        return Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered with something else")));
    }
    let counted = |&[allowed, remaining, wait, at]: &[i64; 4]| {
        let wait = Duration::from_micros(wait.unsigned_abs());
        Counted {
            verdict: Verdict { allowed: allowed == 1, remaining: remaining.unsigned_abs(), wait },
            at: at.unsigned_abs(),
        }
    };
    Ok(verdicts.iter().map(counted).collect())
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// By its hash; where Redis does not know it (it was restarted, or `SCRIPT FLUSH`) by its text, from which it is known.
    pub(super) async fn run<T: redis::FromRedisValue>(
        &self,
        mut connection: MultiplexedConnection,
        keys: &[String],
        arguments: &[String],
    ) -> RedisResult<T> {
        let call = |name, script: &str| {
            let mut call = redis::cmd(name);
            call.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            call
        };
        match call("EVALSHA", &self.hash).query_async(&mut connection).await {
            Err(fault) if fault.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                call("EVAL", self.text).query_async(&mut connection).await
            }
            answer => answer,
        }
    }
}

impl Terms {
    /// All slices of a `sliding_window`, the current one too.
    pub(super) fn window(&self) -> Duration {
        let [width, ring] = self.numbers;
        Duration::from_micros(width.saturating_mul(ring))
    }

    /// Durations in whole µs, the unit of Redis' clock.
    fn of(quota: &Quota) -> Self {
        let window = micros(quota.window);
        match quota.algorithm {
            LimitAlgorithm::SlidingWindow => {
                // As in memory: 60 slices, fewer so that a slice is at least 50 ms; and the current one.
                let slices = (window / 50_000).clamp(1, 60);
                let width = window.div_ceil(slices);
                Self { algorithm: "sliding_window", limit: quota.limit, numbers: [width, slices + 1] }
            }
            LimitAlgorithm::SlidingLog => Self { algorithm: "sliding_log", limit: quota.limit, numbers: [window, 0] },
            LimitAlgorithm::Gcra => {
                // A tick is 1 ns, as in memory, unless a full bucket would not fit into a double then (after 26 days).
                let (mut unit, mut interval) = (1, interval(quota, 1));
                while u128::from(interval) * u128::from(quota.burst) > 1 << 51 {
                    unit *= 10;
                    interval = self::interval(quota, unit);
                }
                Self { algorithm: "gcra", limit: quota.burst, numbers: [interval, unit] }
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

/// Ticks until one charge has drained, rounded up: so the guarantee holds.
fn interval(quota: &Quota, unit: u64) -> u64 {
    let ticks = quota.window.as_nanos().div_ceil(u128::from(quota.limit.max(1)) * u128::from(unit));
    u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(algorithm: LimitAlgorithm, limit: u64, window: Duration, burst: u64) -> Quota {
        Quota { algorithm, limit, window, burst, penalty: Duration::ZERO }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn slices_are_those_of_the_memory() {
        let numbers = |ms| Terms::of(&quota(LimitAlgorithm::SlidingWindow, 9, Duration::from_millis(ms), 9)).numbers;
        assert_eq!(numbers(60_000), [1_000_000, 61]);
        assert_eq!(numbers(1_000), [50_000, 21]);
        assert_eq!(numbers(250), [50_000, 6]);
        assert_eq!(numbers(10), [10_000, 2]);
    }

    #[test]
    fn what_gcra_counts_fits_into_a_double() {
        let year = MINUTE * 60 * 24 * 365;
        for (limit, window, burst) in [
            (100, MINUTE, 20),
            (1_000_000_000, MINUTE, 1_000_000_000),
            (1_000_000_000, year * 100, 1_000_000_000),
            (1, year, 100),
            (7, Duration::from_nanos(1), 1),
        ] {
            let Terms { numbers: [interval, unit], .. } = Terms::of(&quota(LimitAlgorithm::Gcra, limit, window, burst));
            assert!(u128::from(interval) * u128::from(burst) <= 1 << 51);
            // Never faster than the rate, and slower by a tick at most.
            let exact = window.as_nanos() as f64 / limit as f64;
            let ticked = (interval * unit) as f64;
            assert!(ticked >= exact * (1.0 - 1e-12) && ticked <= exact + unit as f64, "{ticked} {exact}");
        }
    }

    #[test]
    fn a_counter_is_named_by_rule_algorithm_window_and_key() {
        let base = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE, 5);
        let name = |rule: &str, quota: &Quota, bytes: &[u8]| {
            hash(&Demand { rule, quota, key: bytes, cost: 1, binding: true }, &Terms::of(quota))
        };
        let general = name("general", &base, b"v\x01\x02\x03\x04");
        let spelled = Name { tag: ONE_TAG.into(), hash: general }.spelled();
        assert!(spelled.starts_with("gapura:{limits}:") && spelled.len() == 16 + 32, "{spelled}");
        assert_eq!(general, name("general", &Quota { limit: 9, ..base.clone() }, b"v\x01\x02\x03\x04"));
        let others = [
            name("other", &base, b"v\x01\x02\x03\x04"),
            name("general", &base, b"v\x01\x02\x03\x05"),
            name("general", &Quota { window: MINUTE * 2, ..base.clone() }, b"v\x01\x02\x03\x04"),
            name("general", &Quota { algorithm: LimitAlgorithm::Gcra, ..base.clone() }, b"v\x01\x02\x03\x04"),
        ];
        assert!(!others.contains(&general));
    }

    #[test]
    fn an_answer_of_another_shape_is_a_failure() {
        assert_eq!(counted(&[1, 4, 20, 7], 1).unwrap()[0].at, 7);
        for (reply, rules) in [(&[1, 4, 20, 7][..], 2), (&[1, 4, 20][..], 1), (&[][..], 1), (&[1, -4, 20, 7][..], 1)] {
            assert!(counted(reply, rules).is_err());
        }
    }
}
