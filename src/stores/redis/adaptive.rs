//! `mode = "adaptive"`: decides here what `loans` allow, asks Redis for the rest, and tells it what was decided.

use std::time::Duration;

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Counted, Demand, Verdict};
use redis::{ErrorKind, RedisError};
use tokio::time::{Instant, sleep, timeout};

use super::{
    counters::{self, Counters, Given, Script},
    loans::{self, Known, Loans, Luggage, Said},
    meters::Meters,
    road::Road,
    servers::Servers,
    terms::{self, Name, Terms},
    together::together,
};

/// Questions side by side, when something is told.
const ABREAST: usize = 32;

pub(super) struct Adaptive {
    instances: u64,
    loans: Loans,
    borrow: Script,
    budget: Duration,
}

/// A demand whose counter is decided here, as far as that goes.
struct Own<'a> {
    place: usize,
    demand: &'a Demand<'a>,
    name: Name,
    terms: Terms,
}

impl Adaptive {
    pub(super) fn new(instances: u64, max_keys: usize, budget: Duration) -> Self {
        let borrow = Script::new(include_str!("borrow.lua"));
        Self { instances, loans: Loans::new(instances, max_keys), borrow, budget }
    }

    /// The other algorithms promise more than a bound in a window, a penalty is one of all instances, and the share of a small limit
    /// would be nothing.
    fn serves(&self, demand: &Demand<'_>) -> bool {
        demand.quota.algorithm == LimitAlgorithm::SlidingWindow
            && demand.quota.penalty.is_zero()
            && loans::share(demand.quota.limit, self.instances) > 0
    }

    /// As [`Counters::charge`].
    pub(super) async fn charge(
        &self,
        (servers, counters, meters): (&Servers, &Counters, &Meters),
        demands: &[Demand<'_>],
    ) -> Vec<Option<Counted>> {
        let now = Instant::now();
        let mut answers: Vec<Option<Counted>> = vec![None; demands.len()];
        let (mut owns, mut asked, mut exact) = (Vec::new(), Vec::new(), Vec::new());
        for (place, demand) in demands.iter().enumerate() {
            if !self.serves(demand) {
                exact.push(place);
                continue;
            }
            let (name, terms) = terms::named(servers, demand);
            // In an outage each rule does what it says, at once.
            if !servers.link(&name.tag).is_some_and(|link| link.is_up()) {
                meters.skipped.inc();
                continue;
            }
            let known = self.loans.decide(&name, &terms, demand.cost, now, false);
            let own = Own { place, demand, name, terms };
            match known {
                Known::Verdict(counted) => {
                    meters.here.inc();
                    answers[place] = Some(counted);
                    owns.push(own);
                }
                Known::Nothing(_) => asked.push(own),
                Known::Full => exact.push(place),
            }
        }
        let refuses = |answers: &[Option<Counted>], place: usize| {
            demands[place].binding && answers[place].is_some_and(|counted| !counted.verdict.allowed)
        };
        let mut charged_exactly = false;
        if (0..demands.len()).any(|place| refuses(&answers, place)) {
            // Refused without Redis. What the others would have said does not matter, and nobody is asked.
            for place in asked.iter().map(|own| own.place).chain(exact.iter().copied()) {
                let verdict = Verdict { allowed: true, remaining: demands[place].quota.limit, wait: Duration::ZERO };
                answers[place] = Some(Counted { verdict, at: 0 });
            }
        } else {
            let exactly: Vec<Demand<'_>> = exact.iter().map(|&place| demands[place]).collect();
            let questions = asked.iter().map(|own| self.ask((servers, counters, meters), own)).collect();
            let (counted, borrowed) = tokio::join!(counters.charge((servers, meters), &exactly), together(questions));
            for (&place, counted) in exact.iter().zip(counted) {
                answers[place] = counted;
            }
            for (own, counted) in asked.into_iter().zip(borrowed) {
                answers[own.place] = counted;
                owns.push(own);
            }
            charged_exactly = !exact.iter().any(|&place| refuses(&answers, place));
        }
        if (0..demands.len()).any(|place| refuses(&answers, place)) {
            let passed = |place: usize| answers[place].filter(|counted| counted.verdict.allowed);
            let mut back: Vec<(Demand<'_>, u64)> = Vec::new();
            if charged_exactly {
                back.extend(exact.iter().filter_map(|&place| Some((demands[place], passed(place)?.at))));
            }
            for own in &owns {
                if let Some(counted) = passed(own.place)
                    && !self.loans.undo(&own.name, own.demand.cost, counted.at, Instant::now())
                {
                    back.push((*own.demand, counted.at));
                }
            }
            counters.refund(servers, &back).await;
        }
        answers
    }

    /// As [`Counters::refund`].
    pub(super) async fn refund(&self, servers: &Servers, counters: &Counters, charged: &[(Demand<'_>, u64)]) {
        let now = Instant::now();
        let mut back = Vec::new();
        for (demand, at) in charged {
            // What stands in Redis is given back there: it may be a part of what a request costs, of no use here.
            let undone = *at == 0 && self.serves(demand) && {
                let (name, _) = terms::named(servers, demand);
                self.loans.undo(&name, demand.cost, *at, now)
            };
            if !undone {
                back.push((*demand, *at));
            }
        }
        counters.refund(servers, &back).await;
    }

    /// One request of a key asks, and the others wait for what it learns.
    async fn ask(&self, (servers, counters, meters): (&Servers, &Counters, &Meters), own: &Own<'_>) -> Option<Counted> {
        let Own { demand, name, terms, .. } = own;
        let before = match self.loans.decide(name, terms, demand.cost, Instant::now(), true) {
            Known::Verdict(counted) => return Some(counted),
            Known::Nothing(asking) => asking,
            Known::Full => return None,
        };
        let Ok(_turn) = timeout(self.budget, before.lock()).await else {
            // It has asked nothing, and waited as long as one that did.
            meters.late.inc();
            return None;
        };
        match self.loans.decide(name, terms, demand.cost, Instant::now(), true) {
            Known::Verdict(counted) => {
                meters.here.inc();
                Some(counted)
            }
            _ => self.tell(servers, counters, (name, terms), demand.cost).await.inspect(|_| meters.there.inc()),
        }
    }

    /// One question: tells what is owed, and charges a cost (0: none).
    async fn tell(
        &self,
        servers: &Servers,
        counters: &Counters,
        (name, terms): (&Name, &Terms),
        cost: u64,
    ) -> Option<Counted> {
        let packed = self.loans.pack(name, cost);
        let Luggage { owed, extra, .. } = packed.luggage();
        let sent = Instant::now();
        let [width, ring] = terms.numbers;
        let keys = [name.spelled()];
        let arguments = [cost, terms.limit, width, ring, owed, extra].map(|number| number.to_string());
        let question = async |connection: Road| {
            let reply: Vec<i64> = self.borrow.run(connection, &keys, &arguments).await?;
            let (&lent, counted) = reply.split_last().unwrap_or((&-1, &[]));
            let counted = counters::counted(counted, 1)?;
            match (counted[..].first(), u64::try_from(lent)) {
                (Some(counted), Ok(lent)) => Ok(Said { counted: *counted, lent }),
                _ => {
                    Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the script answered with something else")))
                }
            }
        };
        let said = servers.ask(&name.tag, question).await.ok()?;
        let (amount, at) = packed.learn(cost, sent, said);
        if amount > 0 {
            let given = Given { name: name.clone(), terms: terms.clone(), cost: amount, at };
            counters.give(servers, &[given]).await;
        }
        let Counted { mut verdict, at } = said.counted;
        // What is borrowed may come at once, here.
        verdict.remaining += said.lent;
        Some(Counted { verdict, at })
    }

    /// Tells Redis what was decided here, and gives back what was borrowed in vain. Ends with the store: it is aborted.
    pub(super) async fn report(&self, servers: &Servers, counters: &Counters) {
        loop {
            // Instances do not all tell at once.
            sleep(loans::TELL.mul_f64(0.25 + rand::random::<f64>() / 2.0)).await;
            let mut due = self.loans.due(Instant::now());
            due.retain(|(name, ..)| servers.link(&name.tag).is_some_and(|link| link.is_up()));
            for some in due.chunks(ABREAST) {
                let told = some.iter().map(async |(name, terms, asking)| {
                    let _turn = asking.lock().await;
                    self.tell(servers, counters, (name, terms), 0).await
                });
                together(told.collect()).await;
            }
        }
    }
}
