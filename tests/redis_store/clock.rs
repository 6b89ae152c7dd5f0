//! The scripts under a clock that the test moves: hours in milliseconds, instants to the microsecond, and steps back.

use std::time::Duration;

use gapura_config::model::LimitAlgorithm;
use gapura_filters::rate_limit::{Quota, Verdict};
use redis::{Connection, Script};

use crate::{
    MINUTE,
    counters::{Memory, field},
    keeps_its_word, run,
    server::Server,
};

const TIME: &str = "redis.call('TIME')";
/// Seconds and microseconds, after all other arguments.
const MOVED: &str = "{ ARGV[#ARGV - 1], ARGV[#ARGV] }";
/// What a key outlives its window by, in ms of the real time: a test that is held up must not find it gone.
const LIVES: &str = "+ 1000)";
/// Of the year 2026, and in the middle of a slice.
const START: u64 = 1_790_000_000_123_456;

struct Moved {
    connection: Connection,
    charge: Script,
    refund: Script,
    quota: Quota,
    algorithm: &'static str,
    /// The two numbers of the algorithm, written out: see `charge.lua`.
    numbers: [u64; 2],
    key: String,
}

/// With the width of a slice, in µs.
fn cases(server: &Server) -> Vec<(Moved, u64)> {
    let moved = |algorithm, limit, burst, window, name, numbers| {
        let text = include_str!("../../src/stores/redis/charge.lua");
        assert_eq!((text.matches(TIME).count(), text.matches(LIVES).count()), (1, 1));
        Moved {
            connection: redis::Client::open(server.url()).unwrap().get_connection().unwrap(),
            charge: Script::new(&text.replace(TIME, MOVED).replace(LIVES, "+ 3600000)")),
            refund: Script::new(include_str!("../../src/stores/redis/refund.lua")),
            quota: Quota { algorithm, limit, window, burst, penalty: Duration::ZERO },
            algorithm: name,
            numbers,
            key: format!("{name} {window:?}"),
        }
    };
    let short = Duration::from_millis(250);
    vec![
        (moved(LimitAlgorithm::SlidingWindow, 20, 20, MINUTE, "sliding_window", [1_000_000, 61]), 1_000_000),
        (moved(LimitAlgorithm::SlidingWindow, 3, 3, short, "sliding_window", [50_000, 6]), 50_000),
        (moved(LimitAlgorithm::SlidingLog, 20, 20, MINUTE, "sliding_log", [60_000_000, 0]), 1_000_000),
        (moved(LimitAlgorithm::SlidingLog, 3, 3, short, "sliding_log", [250_000, 0]), 50_000),
        (moved(LimitAlgorithm::Gcra, 20, 7, MINUTE, "gcra", [3_000_000_000, 1]), 1_000_000),
        (moved(LimitAlgorithm::Gcra, 3, 40, short, "gcra", [83_333_334, 1]), 50_000),
    ]
}

impl Moved {
    fn ask(&mut self, now: u64) -> (Verdict, u64) {
        self.charge(now, 1)
    }

    fn charge(&mut self, now: u64, cost: u64) -> (Verdict, u64) {
        let limit = if self.algorithm == "gcra" { self.quota.burst } else { self.quota.limit };
        let mut call = self.charge.key(&self.key);
        let penalty = self.quota.penalty.as_micros() as u64;
        if penalty > 0 {
            call.key(format!("{} penalty", self.key));
        }
        call.arg(self.algorithm).arg(cost).arg(limit).arg(&self.numbers[..]).arg(1).arg(penalty);
        let reply: [u64; 4] =
            call.arg(now / 1_000_000).arg(now % 1_000_000).invoke(&mut self.connection).expect("an answer");
        let [allowed, remaining, wait, at] = reply;
        (Verdict { allowed: allowed == 1, remaining, wait: Duration::from_micros(wait) }, at)
    }

    fn refund(&mut self, at: u64, cost: u64) {
        let mut call = self.refund.key(&self.key);
        call.arg(self.algorithm).arg(cost).arg(at).arg(&self.numbers[..]);
        let () = call.invoke(&mut self.connection).unwrap();
    }
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

    /// Gaps that an adversary would choose.
    fn gap(&mut self, window: u64, slice: u64) -> u64 {
        match self.throw(256) {
            0..180 => 0,
            180..200 => 1,
            200..220 => self.throw(slice),
            220..232 => slice,
            232..244 => slice - 1,
            244..247 => self.throw(window),
            247..250 => window,
            250..253 => window - 1,
            _ => self.throw(window * 5),
        }
    }
}

#[test]
fn whatever_the_time_redis_and_memory_say_the_same() {
    run(async {
        let server = Server::start();
        for (mut moved, slice) in cases(&server) {
            let memory = Memory::new(&moved.quota);
            let (mut dice, mut now) = (Dice(0x9E37_79B9_7F4A_7C15), START);
            let (mut admitted, mut refused) = (Vec::new(), 0);
            for turn in 0..1500 {
                let (verdict, at) = moved.ask(now);
                assert_eq!(at, now);
                assert_eq!(field(verdict), memory.ask(now).await, "{} turn {turn}", moved.key);
                if verdict.allowed {
                    admitted.push(at);
                    now += dice.gap(moved.quota.window.as_micros() as u64, slice);
                } else {
                    refused += 1;
                    // Now and then it waits as it was told, but for a microsecond, and then that one.
                    let wait = verdict.wait.as_micros() as u64;
                    if dice.throw(4) == 0 {
                        let early = now + wait - 1;
                        let last = moved.ask(early).0;
                        assert_eq!((last.allowed, last.wait), (false, Duration::from_micros(1)), "{}", moved.key);
                        now += wait;
                        let (verdict, at) = moved.ask(now);
                        assert!(verdict.allowed, "{} turn {turn}", moved.key);
                        assert_eq!(field(verdict), memory.ask(now).await);
                        admitted.push(at);
                    } else {
                        now += dice.gap(moved.quota.window.as_micros() as u64, slice);
                    }
                }
            }
            keeps_its_word(&moved.quota, &admitted);
            assert!(refused > 50 && admitted.len() > 50, "{}: {refused} {}", moved.key, admitted.len());
        }
    });
}

/// A refusal is followed by others for as long as the rule says, and both stores say it alike.
#[test]
fn penalties_are_alike() {
    run(async {
        let server = Server::start();
        for (mut moved, slice) in cases(&server) {
            let window = moved.quota.window;
            for penalty in [window / 10, window * 3] {
                moved.quota.penalty = penalty;
                moved.key = format!("{} {penalty:?}", moved.key);
                let memory = Memory::new(&moved.quota);
                let (mut dice, mut now, mut admitted, mut longer) = (Dice(0x5851_F42D_4C95_7F2D), START, Vec::new(), 0);
                for turn in 0..600 {
                    let (verdict, at) = moved.ask(now);
                    assert_eq!(field(verdict), memory.ask(now).await, "{} turn {turn}", moved.key);
                    if verdict.allowed {
                        admitted.push(at);
                        now += dice.gap(window.as_micros() as u64, slice);
                        continue;
                    }
                    let wait = verdict.wait.as_micros() as u64;
                    longer += u64::from(verdict.wait >= penalty);
                    if dice.throw(3) == 0 {
                        now += wait;
                        let (verdict, at) = moved.ask(now);
                        assert!(verdict.allowed, "{} turn {turn}: who waits as told passes", moved.key);
                        assert_eq!(field(verdict), memory.ask(now).await);
                        admitted.push(at);
                    } else {
                        now += dice.throw(wait);
                        assert!(!moved.ask(now).0.allowed, "{} turn {turn}: not before", moved.key);
                        memory.ask(now).await;
                    }
                }
                keeps_its_word(&moved.quota, &admitted);
                assert!(longer > 10 && admitted.len() > 20, "{}: {longer} {}", moved.key, admitted.len());
            }
        }
    });
}

/// With charges given back, and a clock that goes back: what is kept never exceeds the limit.
#[test]
fn neither_refunds_nor_a_clock_that_goes_back_grant_more() {
    let server = Server::start();
    for (mut moved, slice) in cases(&server) {
        let window = moved.quota.window.as_micros() as u64;
        let (mut dice, mut now, mut kept) = (Dice(0x0123_4567_89AB_CDEF), START, Vec::<u64>::new());
        let (mut held, mut heavy, mut latest) = (Vec::<(u64, u64)>::new(), 0, START);
        let most = if moved.algorithm == "gcra" { moved.quota.burst } else { moved.quota.limit };
        for turn in 0..1500 {
            match dice.throw(8) {
                0 if !held.is_empty() => {
                    let (at, cost) = held.swap_remove(dice.throw(held.len() as u64) as usize);
                    for _ in 0..cost {
                        kept.swap_remove(kept.iter().position(|&other| other == at).unwrap());
                    }
                    moved.refund(at, cost);
                }
                1 if dice.throw(4) == 0 => {
                    keeps_its_word(&moved.quota, &kept);
                    if moved.algorithm != "gcra" {
                        // What had left the window has left it for good, though the clock be set back to before.
                        kept.retain(|&at| at + window > latest);
                        held.retain(|&(at, _)| at + window > latest);
                    }
                    now -= dice.throw(window);
                }
                _ => now += dice.gap(window, slice),
            }
            let cost = if dice.throw(3) == 0 { 1 + dice.throw(most.min(6)) } else { 1 };
            let (verdict, at) = moved.charge(now, cost);
            assert!(at >= now);
            latest = latest.max(at);
            if verdict.allowed {
                kept.extend((0..cost).map(|_| at));
                held.push((at, cost));
                heavy += u64::from(cost > 1);
            }
            if turn % 50 == 49 {
                keeps_its_word(&moved.quota, &kept);
                held.drain(..held.len() / 2);
            }
        }
        keeps_its_word(&moved.quota, &kept);
        assert!(heavy > 10, "{}: {heavy}", moved.key);
    }
}
