//! `mode = "adaptive"`: the bound holds in the worst burst, nothing is admitted above the limit in steady use, and Redis is spared.

use std::{sync::Arc, time::Duration};

use gapura_config::model::{self, LimitAlgorithm, RedisMode};
use gapura_filters::rate_limit::{Demand, SharedCounters};
use tokio::time::{Instant, sleep};

use crate::{Instance, MINUTE, NOW, demand, quota, run, server::Server, until};

const INSTANCES: u64 = 3;

async fn of(server: &Server, instances: u64) -> Instance {
    let instance = Instance::with(&server.url(), |redis| model::Redis {
        mode: RedisMode::Adaptive,
        instances: Some(instances),
        ..redis
    });
    instance.is(true).await;
    instance
}

async fn three(server: &Server) -> [Instance; 3] {
    [of(server, INSTANCES).await, of(server, INSTANCES).await, of(server, INSTANCES).await]
}

fn commands(server: &Server, name: &str) -> u64 {
    let text: String = server.ask(&["INFO", "commandstats"]);
    let line = text.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
    line.and_then(|line| line.split(['=', ',']).nth(1)?.parse().ok()).unwrap_or(0)
}

fn decisions(instance: &Instance, place: &str) -> u64 {
    instance.metrics.store_decisions.with_label_values(&["redis", place]).get()
}

/// Nobody knows anything, and all come at once, to all instances: the share of each, and no more.
#[test]
fn a_cold_burst_stays_within_the_bound() {
    run(async {
        let server = Server::start();
        let instances = three(&server).await;
        let quota = Arc::new(quota(LimitAlgorithm::SlidingWindow, 300, MINUTE * 60));
        // A share is 300 / 10 / 3.
        let most = 300 + 10 * (INSTANCES - 1);
        let mut worst = 0;
        for round in 0..10_u8 {
            let tasks: Vec<_> = (0..24)
                .map(|task| {
                    let (store, quota) = (instances[task % 3].store.clone(), quota.clone());
                    tokio::spawn(async move {
                        let mut passed = 0;
                        for _ in 0..40 {
                            let counted = store.charge(NOW, &[demand("r", &quota, &[round])]).await;
                            passed += u64::from(counted[0].expect("Redis is there").verdict.allowed);
                            tokio::task::yield_now().await;
                        }
                        passed
                    })
                })
                .collect();
            let mut passed = 0;
            for task in tasks {
                passed += task.await.unwrap();
            }
            assert!((300..=most).contains(&passed), "{passed}");
            worst = worst.max(passed);
        }
        println!("adaptive: of 960 at once to 3 instances {worst} pass at a limit of 300; the bound is {most}");
    });
}

/// Ten times the limit, for some windows: what reaches Redis, and what passes in the worst window.
#[test]
fn far_above_the_limit_redis_is_spared() {
    run(async {
        let server = Server::start();
        let instances = three(&server).await;
        let (window, limit) = (Duration::from_secs(3), 600);
        let quota = quota(LimitAlgorithm::SlidingWindow, limit, window);
        let before = commands(&server, "evalsha");
        let (start, mut asked, mut admitted) = (Instant::now(), 0_u64, Vec::new());
        // 2000 a second: what is late is made up for.
        while start.elapsed() < window * 3 {
            let due = (start.elapsed().as_secs_f64() * 2000.0) as u64;
            while asked < due {
                let (instance, sent) = (&instances[(asked % INSTANCES) as usize], start.elapsed());
                let counted = instance.one("r", &quota, b"k").await;
                if counted.verdict.allowed {
                    admitted.push((sent, start.elapsed()));
                }
                asked += 1;
            }
            sleep(Duration::from_millis(2)).await;
        }
        let questions = commands(&server, "evalsha") - before;
        let percent = questions as f64 * 100.0 / asked as f64;
        let worst = worst(&admitted, window);
        let most = limit as usize + 40;
        println!(
            "adaptive: {asked} asked, {} admitted, {worst} in the worst window (limit {limit}, bound {most}); {questions} questions to Redis: {percent:.2} %",
            admitted.len()
        );
        assert!(percent < 5.0, "{percent}");
        assert!(worst <= most, "{worst}");
        // Nothing is wasted for long, either.
        assert!(admitted.len() as u64 > limit * 2, "{}", admitted.len());
        let [here, there] =
            ["local", "remote"].map(|place| instances.iter().map(|one| decisions(one, place)).sum::<u64>());
        assert_eq!(here + there, asked);
    });
}

/// Somewhat more than may pass, without pause: nothing passes that is too much.
#[test]
fn in_steady_use_nothing_passes_above_the_limit() {
    run(async {
        let server = Server::start();
        let instances = three(&server).await;
        let (window, limit) = (Duration::from_secs(4), 600);
        let quota = quota(LimitAlgorithm::SlidingWindow, limit, window);
        let (start, mut asked, mut admitted) = (Instant::now(), 0_u64, Vec::new());
        let (mut last, mut pause) = (Duration::ZERO, Duration::ZERO);
        // 225 a second, where 150 may pass.
        while start.elapsed() < window * 3 {
            let due = (start.elapsed().as_secs_f64() * 225.0) as u64;
            while asked < due {
                let sent = start.elapsed();
                let counted = instances[(asked % INSTANCES) as usize].one("r", &quota, b"k").await;
                let done = start.elapsed();
                (pause, last) = (pause.max(done - last), done);
                if counted.verdict.allowed {
                    admitted.push((sent, done));
                }
                asked += 1;
            }
            sleep(Duration::from_millis(2)).await;
        }
        let first = worst(&admitted, window);
        let steady: Vec<_> = admitted.iter().copied().filter(|(sent, _)| *sent >= window).collect();
        let worst = worst(&steady, window);
        println!(
            "adaptive: {asked} asked, {} ms the longest pause, {} admitted, {first} in the worst window of {limit}, {worst} in the \
             worst after the first",
            pause.as_millis(),
            admitted.len()
        );
        assert!(first <= limit as usize + 40, "{first}");
        // Where the machine stood still while a tenth of the counter emptied, what followed was a new burst.
        let most = if pause < window / 20 { limit } else { limit + 40 };
        assert!(worst <= most as usize, "{worst}");
        assert!(admitted.len() as u64 > limit * 2, "{}", admitted.len());
    });
}

/// The most that certainly passed in one window: sent after it began, and answered before it ended. One was sent after the other.
fn worst(admitted: &[(Duration, Duration)], window: Duration) -> usize {
    let within = |(first, &(since, _)): (usize, &(Duration, Duration))| {
        admitted[first..].iter().take_while(|(_, done)| *done - since < window).count()
    };
    admitted.iter().enumerate().map(within).max().unwrap()
}

/// Below the limit nothing is asked; what was decided is told in the background, and counted.
#[test]
fn what_was_decided_here_is_told() {
    run(async {
        let server = Server::start();
        let instances = three(&server).await;
        let quota = quota(LimitAlgorithm::SlidingWindow, 3000, MINUTE * 60);
        for turn in 0..60 {
            let counted = instances[turn % 3].one("r", &quota, b"k").await;
            assert!(counted.verdict.allowed && counted.at == 0);
        }
        // Refunded before they are told: they never were.
        for instance in &instances {
            instance.refund("r", &quota, b"k", 0).await;
        }
        let exact = Instance::of(&server).await;
        // Heavier than ever passes: it says what is left, and charges nothing.
        let heavy = Demand { cost: 3001, ..demand("r", &quota, b"k") };
        until(async || exact.charge(&[heavy]).await.unwrap()[0].verdict.remaining == 3000 - 57).await;
        assert!(instances.iter().all(|instance| decisions(instance, "remote") == 0));
    });
}

/// Two rules on one request: what one has charged here is given back where the other refuses.
#[test]
fn rules_are_all_or_nothing() {
    run(async {
        let server = Server::start();
        let instance = of(&server, 1).await;
        let (wide, narrow) = (
            quota(LimitAlgorithm::SlidingWindow, 10_000, MINUTE * 60),
            quota(LimitAlgorithm::SlidingLog, 5, MINUTE * 60),
        );
        for turn in 0..50 {
            let counted =
                instance.charge(&[demand("wide", &wide, b"k"), demand("narrow", &narrow, b"k")]).await.unwrap();
            assert_eq!([counted[0].verdict.allowed, counted[1].verdict.allowed], [true, turn < 5]);
        }
        let left = instance.one("wide", &wide, b"k").await.verdict.remaining;
        assert_eq!(left, 10_000 - 6);
    });
}
