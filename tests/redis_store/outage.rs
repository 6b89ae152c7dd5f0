//! Redis dies, hangs, refuses; and comes back.

use std::time::{Duration, Instant};

use gapura_config::model::{LimitAlgorithm, OnOutage};
use gapura_filters::{
    authentication::SharedLockouts,
    encryption::{Mark, SharedReplays},
};

use crate::{AMPLE, Instance, Journal, MINUTE, PATIENCE, demand, info, quota, run, server::Server, until};

#[test]
fn a_redis_that_dies_is_an_outage_until_it_is_back() {
    run(async {
        let mut server = Server::start();
        let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE);
        let demands = [demand("r", &quota, b"k")];
        let of = |on_outage| Instance::new(&server.url(), on_outage, AMPLE);
        let instances = [of(OnOutage::Local), of(OnOutage::Open), of(OnOutage::Closed)];
        for instance in &instances {
            instance.is(true).await;
            assert!(instance.charge(&demands).await.is_some());
        }
        server.kill();
        for instance in &instances {
            // A connection that broke is not asked twice.
            assert_eq!(instance.charge(&demands).await, None);
            assert!(!instance.store.is_up());
            let asked = instance.calls("failed");
            for _ in 0..1000 {
                assert_eq!(instance.charge(&demands).await, None);
            }
            assert_eq!((instance.calls("failed"), instance.calls("late")), (asked, 0));
            until(async || instance.metrics.encode().contains("gapura_store_up{store=\"redis\"} 0")).await;
            instance.refund("r", &quota, b"k", 7).await;
        }
        server.restart();
        for instance in &instances {
            instance.is(true).await;
            assert!(instance.charge(&demands).await.is_some());
            assert!(instance.metrics.encode().contains("gapura_store_up{store=\"redis\"} 1"));
        }
        // Of three instances each says it once, and not for each request.
        let count = |words| Journal::count(server.port, words);
        assert_eq!([count("answers"), count("is not asked"), count("cannot be asked")], [6, 3, 0]);
    });
}

/// The worst of outages: connections stand, and nothing is answered.
#[test]
fn a_redis_that_hangs_costs_a_few_requests_their_budget() {
    run(async {
        let server = Server::start();
        let budget = Duration::from_millis(100);
        let instance = Instance::new(&server.url(), OnOutage::Local, budget);
        let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE);
        let demands = [demand("r", &quota, b"k")];
        // Where the machine is busy, the first connection may be given up, too.
        until(async || instance.charge(&demands).await.is_some()).await;
        server.freeze();
        let late = instance.calls("late");
        let start = Instant::now();
        for _ in 0..2000 {
            assert_eq!(instance.charge(&demands).await, None);
        }
        assert!(!instance.store.is_up());
        // Without a budget they would wait for ever; without a breaker, for 200 s.
        assert!(start.elapsed() < PATIENCE);
        assert!((1..=6).contains(&(instance.calls("late") - late)), "{late} {}", instance.calls("late"));
        assert!(instance.calls("skipped") >= 1990);
        server.thaw();
        instance.is(true).await;
        until(async || instance.charge(&demands).await.is_some()).await;
    });
}

#[test]
fn a_redis_that_comes_late_is_waited_for_in_the_background() {
    run(async {
        let mut server = Server::start();
        server.kill();
        let instance = Instance::new(&server.url(), OnOutage::Closed, AMPLE);
        let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE);
        assert_eq!(instance.charge(&[demand("r", &quota, b"k")]).await, None);
        until(async || Journal::count(server.port, "cannot be asked") == 1).await;
        server.restart();
        instance.is(true).await;
        assert!(instance.one("r", &quota, b"k").await.verdict.allowed);
        assert_eq!([Journal::count(server.port, "cannot be asked"), Journal::count(server.port, "answers")], [1, 1]);
    });
}

#[test]
fn a_store_that_is_dropped_lets_go_of_redis() {
    run(async {
        let server = Server::start();
        let connected = || {
            let text: String = server.ask(&["INFO", "clients"]);
            // The one that asks is one of them.
            info(&text)["connected_clients"].trim().parse::<u32>().unwrap() - 1
        };
        let instance = Instance::of(&server).await;
        until(async || connected() == 1).await;
        drop(instance);
        until(async || connected() == 0).await;
    });
}

/// Exactly the commands that the documentation names.
const ACL: &str = "limiter on >p@ss/word ~gapura:* -@all +evalsha +eval +time +get +set +del +llen +lindex +ltrim +rpush +lrem +pexpire \
     +zadd +zcard +zrange +zrangebyscore +zrem +hget +hmget +hset +hdel";

#[test]
fn a_user_with_few_rights_suffices_and_one_with_fewer_is_an_outage() {
    run(async {
        let users = |acl: &str| {
            let mut options = vec!["--requirepass".to_owned(), "admin".to_owned(), "--user".to_owned()];
            options.extend(acl.split(' ').map(str::to_owned));
            let mut server = Server::with(&options.iter().map(String::as_str).collect::<Vec<_>>());
            server.login = "limiter:p%40ss%2Fword@".to_owned();
            server
        };
        let server = users(ACL);
        let instance = Instance::of(&server).await;
        for algorithm in crate::ALGORITHMS {
            let quota = quota(algorithm, 5, Duration::from_millis(50));
            for _ in 0..20 {
                let counted = instance.one("r", &quota, b"k").await;
                if counted.verdict.allowed {
                    instance.refund("r", &quota, b"k", counted.at).await;
                    instance.one("r", &quota, b"k").await;
                }
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        }
        assert_eq!(instance.store.check_and_mark([7; 16], MINUTE, crate::NOW).await, Mark::New);
        let terms = crate::lockouts::TERMS;
        assert!(instance.store.fail(&[1; 16], Some(&[2; 16]), &terms).await.is_some());
        assert_eq!((instance.calls("failed"), instance.calls("late")), (0, 0));

        // By the same probe an instance would come up; here it must not.
        let server = users(&ACL.replace(" +set", ""));
        let poor = Instance::new(&server.url(), OnOutage::Closed, AMPLE);
        let wrong = Instance::new(&server.url().replace("word", "ward"), OnOutage::Closed, AMPLE);
        let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE);
        // Each has been turned away.
        until(async || Journal::count(server.port, "cannot be asked") == 2).await;
        for instance in [&poor, &wrong] {
            assert_eq!(instance.charge(&[demand("r", &quota, b"k")]).await, None);
            assert!(!instance.store.is_up());
        }
        assert!(!["p@ss", "p%40ss", "ss/word"].into_iter().any(Journal::holds));
    });
}

#[test]
fn a_password_alone_suffices() {
    run(async {
        let mut server = Server::with(&["--requirepass", "s3cret"]);
        server.login = ":s3cret@".to_owned();
        let instance = Instance::of(&server).await;
        assert!(instance.one("r", &quota(LimitAlgorithm::Gcra, 5, MINUTE), b"k").await.verdict.allowed);
    });
}

/// Who was the primary and is a replica now answers, and refuses to write: nothing is admitted by it, and it is asked no more.
#[test]
fn a_server_that_becomes_a_replica_is_an_outage_at_once() {
    run(async {
        let (server, other) = (Server::start(), Server::start());
        let instance = Instance::of(&server).await;
        let quota = quota(LimitAlgorithm::SlidingWindow, 5, MINUTE);
        assert!(instance.one("r", &quota, b"k").await.verdict.allowed);
        let () = server.ask(&["REPLICAOF", "127.0.0.1", &other.port.to_string()]);
        for _ in 0..50 {
            assert_eq!(instance.charge(&[demand("r", &quota, b"k")]).await, None);
        }
        assert!(!instance.store.is_up());
        // Of the first refusal the store may have heard by a question of its own.
        let (failed, skipped) = (instance.calls("failed"), instance.calls("skipped"));
        assert!(failed <= 1 && failed + skipped == 50, "the first refusal opens the breaker: {failed} {skipped}");
        let () = server.ask(&["REPLICAOF", "NO", "ONE"]);
        instance.is(true).await;
        assert!(instance.one("r", &quota, b"k").await.verdict.allowed);
    });
}
