//! Failed authentications: counted together by all instances, as one counts them in its memory.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::authentication::{Failed, LockoutTerms, SharedLockouts};
use tokio::time::sleep;

use crate::{AMPLE, Instance, run, server::Server, until};

pub(crate) const TERMS: LockoutTerms = LockoutTerms {
    failures: 3,
    window: Duration::from_secs(600),
    // So long that a test is not overtaken by their end where the machine is busy.
    duration: Duration::from_secs(3),
    max_duration: Duration::from_secs(4),
};

#[test]
fn failures_at_all_instances_lock_an_address_out_and_each_lock_is_longer() {
    run(async {
        let mut server = Server::start();
        let instances = [Instance::of(&server).await, Instance::of(&server).await];
        let fail = async |turn: usize| instances[turn % 2].store.fail(&[1; 16], None, &TERMS).await;
        for (turn, lasts) in [TERMS.duration, TERMS.max_duration].into_iter().enumerate() {
            for _ in 0..2 {
                assert_eq!(fail(turn).await, Some(Failed::default()));
            }
            assert_eq!(fail(turn + 1).await, Some(Failed { locked: Some(lasts), begins: true, watched: None }));
            // The other one learns of it, and makes it no longer.
            let told = fail(turn).await.unwrap();
            assert!(!told.begins && told.locked.is_some_and(|left| left < lasts), "{told:?}");
            // By another clock than Redis'.
            sleep(told.locked.unwrap() + Duration::from_millis(100)).await;
        }
        assert_eq!(instances[0].store.fail(&[2; 16], None, &TERMS).await, Some(Failed::default()), "another address");
        // What is written holds no address, and expires.
        let keys: Vec<String> = server.ask(&["KEYS", "gapura:{lockouts}:address:*"]);
        assert_eq!(keys.len(), 2);
        for key in keys {
            assert!(!key.contains("0101010101"), "{key}");
            let left: i64 = server.ask(&["PTTL", &key]);
            assert!((1..=601_001).contains(&left), "{left}");
        }
        server.kill();
        assert_eq!(fail(0).await, None, "then it counts for itself");
    });
}

/// Without a failure of its own.
#[test]
fn a_lock_at_one_instance_is_known_to_all_and_outlives_redis() {
    run(async {
        let mut server = Server::start();
        let (one, other) = (Instance::of(&server).await, Instance::of(&server).await);
        let terms =
            LockoutTerms { duration: Duration::from_secs(600), max_duration: Duration::from_secs(600), ..TERMS };
        for _ in 0..3 {
            assert!(one.store.fail(&[1; 16], None, &terms).await.is_some());
        }
        until(async || [&one, &other].iter().all(|instance| instance.store.left(&[1; 16]).is_some())).await;
        assert!(other.store.left(&[1; 16]).is_some_and(|left| left <= terms.duration));
        assert_eq!(other.store.left(&[2; 16]), None);
        // As many as are told, and then some: those are learnt by a failure.
        for number in 0..1100_u64 {
            let mut address = [7; 16];
            address[..8].copy_from_slice(&number.to_be_bytes());
            assert!(one.store.fail(&address, None, &LockoutTerms { failures: 1, ..terms }).await.unwrap().begins);
        }
        assert_eq!(server.ask::<usize>(&["ZCARD", "gapura:{lockouts}:locked"]), 1024);
        let left: i64 = server.ask(&["PTTL", "gapura:{lockouts}:locked"]);
        assert!((1..=601_000).contains(&left), "{left}");
        // One that is new is told, too.
        let third = Instance::of(&server).await;
        until(async || third.store.left(&[1; 16]).is_some()).await;
        server.kill();
        third.is(false).await;
        server.restart();
        third.is(true).await;
        assert_eq!(
            third.store.fail(&[9; 16], None, &LockoutTerms { failures: 1, ..terms }).await.map(|failed| failed.begins),
            Some(true)
        );
        until(async || other.store.left(&[9; 16]).is_some()).await;
        assert!(third.store.left(&[1; 16]).is_some() && other.store.left(&[1; 16]).is_some());
    });
}

#[test]
fn an_identity_that_is_guessed_from_everywhere_locks_out_at_the_first_guess() {
    run(async {
        let server = Server::start();
        let instance = Instance::new(&server.url(), OnOutage::Closed, AMPLE);
        instance.is(true).await;
        let terms = LockoutTerms { duration: Duration::from_secs(30), max_duration: Duration::from_secs(100), ..TERMS };
        let fail = async |address: u8| instance.store.fail(&[address; 16], Some(&[9; 16]), &terms).await.unwrap();
        for address in 0..2 {
            assert_eq!(fail(address).await, Failed::default());
        }
        let begun = Some(terms.duration);
        assert_eq!(fail(2).await, Failed { locked: begun, begins: true, watched: begun });
        assert_eq!(fail(3).await, Failed { locked: begun, begins: true, watched: None });
        assert!(!fail(3).await.begins);
    });
}
