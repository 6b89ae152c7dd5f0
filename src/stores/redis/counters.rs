//! Rate limits: one script call for all rules of a request; in a Cluster one for those of the same key.

use std::{sync::Arc, time::Duration};

use gapura_filters::rate_limit::{Counted, Demand, Verdict};
use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::ConnectionLike};

use super::{
    link::{Down, Link},
    meters::Meters,
    road::Road,
    servers::Servers,
    terms::{self, Name, Terms, micros, named},
    together::together,
};

pub(super) struct Counters {
    charge: Script,
    refund: Script,
}

/// Known to Redis by its hash, once it has seen the text.
pub(super) struct Script {
    text: &'static str,
    hash: String,
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
        let question = async |connection: Road| {
            let reply: Vec<i64> = self.charge.run(connection, &keys, &arguments).await?;
            counted(&reply, charges.len())
        };
        servers.ask(tag, question).await
    }

    /// The same of one server.
    pub(super) async fn ask_at(&self, link: &Link, charges: &[Charge<'_>]) -> Result<Vec<Counted>, Down> {
        let (keys, arguments) = arguments(charges);
        let question = async |connection: Road| {
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
            let question = async |connection: Road| self.refund.run::<redis::Value>(connection, keys, arguments).await;
            servers.ask(tag, question).await
        });
        together(refunds.collect()).await;
    }
}

/// What Redis is asked before requests are: whether it answers in time, and whether the user may run scripts that write.
pub(super) async fn probe(connection: impl ConnectionLike, tag: Arc<str>) -> RedisResult<()> {
    let (name, terms) = terms::probe(tag);
    let charge = Charge { name: &name, terms: &terms, cost: 1, binding: true, penalty: Duration::ZERO };
    let (keys, arguments) = arguments(&[charge]);
    let reply: Vec<i64> = Script::new(include_str!("charge.lua")).run(connection, &keys, &arguments).await?;
    counted(&reply, 1).map(drop)
}

fn charge_of<'a>(demand: &Demand<'_>, (name, terms): &'a (Name, Terms)) -> Charge<'a> {
    Charge { name, terms, cost: demand.cost, binding: demand.binding, penalty: demand.quota.penalty }
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
        mut connection: impl ConnectionLike,
        keys: &[impl redis::ToRedisArgs],
        arguments: &[impl redis::ToRedisArgs],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_shape_is_a_failure() {
        assert_eq!(counted(&[1, 4, 20, 7], 1).unwrap()[0].at, 7);
        for (reply, rules) in [(&[1, 4, 20, 7][..], 2), (&[1, 4, 20][..], 1), (&[][..], 1), (&[1, -4, 20, 7][..], 1)] {
            assert!(counted(reply, rules).is_err());
        }
    }
}
