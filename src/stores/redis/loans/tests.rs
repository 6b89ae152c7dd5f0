//! The bound, against a Redis of the test's own: instances, questions under way and lost answers in any order.

use std::collections::BTreeMap;

use super::*;

const WINDOW: u64 = 6_000_000;
const WIDTH: u64 = 100_000;
const RING: u64 = 61;
const INSTANCES: u64 = 3;
const LIMIT: u64 = 300;

/// What `borrow.lua` does.
#[derive(Default)]
struct Model(BTreeMap<u64, u64>);

impl Model {
    fn run(&mut self, clock: u64, cost: u64, Luggage { owed, extra, .. }: Luggage) -> Said {
        let newest = clock / WIDTH;
        self.0.retain(|slice, _| slice + RING > newest);
        let used = self.0.values().sum::<u64>() + owed;
        let allowed = used + cost <= LIMIT;
        let lent = if allowed { extra.min((LIMIT - used - cost).div_ceil(2)) } else { 0 };
        *self.0.entry(newest).or_default() += owed + lent + if allowed { cost } else { 0 };
        let remaining = if allowed { LIMIT - used - cost - lent } else { LIMIT.saturating_sub(used) };
        let oldest = self.0.keys().next().copied().unwrap_or(newest);
        let wait = Duration::from_micros((oldest + RING) * WIDTH - clock);
        Said { counted: Counted { verdict: Verdict { allowed, remaining, wait }, at: clock }, lent }
    }
}

/// A question under way: of whom, when it was put, and what Redis has said meanwhile.
struct Asked<'a> {
    packed: Packed<'a>,
    cost: u64,
    sent: u64,
    said: Option<Said>,
}

/// The same numbers in each run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % sides
    }
}

/// Instants of all that were admitted; `reports`: what was decided is told now and then.
fn admitted(seed: u64, turns: usize, reports: bool) -> Vec<u64> {
    let (name, terms) = crate::stores::redis::terms::example(LIMIT, [WIDTH, RING]);
    let epoch = Instant::now();
    let instant = |clock: u64| epoch + Duration::from_micros(clock);
    let all: Vec<Loans> = (0..INSTANCES).map(|_| Loans::new(INSTANCES, 1000)).collect();
    let mut asked: Vec<Option<Asked<'_>>> = all.iter().map(|_| None).collect();
    let (mut dice, mut redis, mut clock, mut admitted) = (Dice(seed), Model::default(), 1_000_000_000_u64, Vec::new());
    for _ in 0..turns {
        clock += match dice.throw(2000) {
            0..1970 => dice.throw(50),
            1970..1990 => dice.throw(WIDTH / 4),
            1990..1999 => dice.throw(WIDTH * 3),
            _ => dice.throw(WINDOW),
        };
        let who = dice.throw(INSTANCES) as usize;
        let (loans, under_way) = (&all[who], &mut asked[who]);
        match dice.throw(8) {
            // Redis gets to it, or the answer comes, or is lost.
            0..2 => {
                if let Some(question) = under_way
                    && question.said.is_none()
                {
                    let said = redis.run(clock, question.cost, question.packed.luggage());
                    if question.cost > 0 && said.counted.verdict.allowed {
                        admitted.push(clock);
                    }
                    question.said = Some(said);
                }
            }
            2..4 => match under_way.take() {
                Some(Asked { packed, cost, sent, said: Some(said) }) if dice.throw(20) > 0 => {
                    packed.learn(cost, instant(sent), said);
                }
                Some(Asked { said: Some(_), .. }) | None => {}
                waiting => *under_way = waiting,
            },
            4 if reports && under_way.is_none() && dice.throw(10) == 0 => {
                *under_way = Some(Asked { packed: loans.pack(&name, 0), cost: 0, sent: clock, said: None });
            }
            _ => match loans.decide(&name, &terms, 1, instant(clock), false) {
                Known::Verdict(counted) if counted.verdict.allowed => admitted.push(clock),
                Known::Nothing(_) if under_way.is_none() => {
                    *under_way = Some(Asked { packed: loans.pack(&name, 1), cost: 1, sent: clock, said: None });
                }
                _ => {}
            },
        }
    }
    admitted
}

fn worst(admitted: &[u64]) -> u64 {
    let mut first = 0;
    let mut worst = 0;
    for (last, at) in admitted.iter().enumerate() {
        while admitted[first] + WINDOW <= *at {
            first += 1;
        }
        worst = worst.max(last - first + 1);
    }
    worst as u64
}

#[test]
fn never_more_than_the_stated_bound_whatever_the_order() {
    let most = LIMIT + share(LIMIT, INSTANCES) * (INSTANCES - 1);
    let (mut highest, mut all) = (0, 0);
    for seed in 1..=60 {
        let admitted = admitted(seed * 0x9E37_79B9_7F4A, 20_000, seed % 2 == 0);
        let worst = worst(&admitted);
        assert!(worst <= most, "seed {seed}: {worst}, at most {most}");
        highest = highest.max(worst);
        all += admitted.len();
    }
    // The bound is not met by admitting nothing.
    assert!(highest > LIMIT && all > 60 * LIMIT as usize, "{highest} {all}");
}

#[test]
fn a_share_is_nothing_where_limits_are_small() {
    assert_eq!([share(59, 3), share(60, 3), share(600, 3), share(20, 1), share(19, 1)], [0, 2, 20, 2, 0]);
}

/// Known and waiting to be told: it is neither lost nor doubled by who gives up.
#[test]
fn what_was_admitted_stays_owed_until_it_is_told() {
    let (name, terms) = crate::stores::redis::terms::example(LIMIT, [WIDTH, RING]);
    let (loans, now) = (Loans::new(INSTANCES, 1000), Instant::now());
    for _ in 0..10 {
        assert!(
            matches!(loans.decide(&name, &terms, 1, now, false), Known::Verdict(counted) if counted.verdict.allowed)
        );
    }
    // The share is used up.
    assert!(matches!(loans.decide(&name, &terms, 1, now, false), Known::Nothing(_)));
    let packed = loans.pack(&name, 1);
    assert_eq!(packed.luggage().owed, 10);
    // Also while it is under way.
    assert!(matches!(loans.decide(&name, &terms, 1, now, false), Known::Nothing(_)));
    drop(packed);
    assert_eq!(loans.due(now + TELL).len(), 1);
    let packed = loans.pack(&name, 0);
    let said = Model::default().run(1_000_000_000, 0, packed.luggage());
    packed.learn(0, now, said);
    assert!(loans.due(now + TELL).is_empty());
    assert!(matches!(loans.decide(&name, &terms, 1, now, false), Known::Verdict(_)));
    // Of keys there is no room for nothing is known.
    let (small, other) = (Loans::new(INSTANCES, 1), Loans::new(INSTANCES, 1000));
    assert!(matches!(small.decide(&name, &terms, 1, now, false), Known::Verdict(_)));
    assert!(other.undo(&name, 1, 0, now) && !other.undo(&name, 1, 7, now));
}
