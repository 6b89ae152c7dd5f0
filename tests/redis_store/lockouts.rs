//! Failed authentications: counted together by all instances, as one counts them in its memory.

use std::time::Duration;

use gapura_config::model::OnOutage;
use gapura_filters::authentication::{Failed, LockoutTerms, SharedLockouts};
use tokio::time::sleep;

use crate::{AMPLE, Instance, run, server::Server};

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
        let keys: Vec<String> = server.ask(&["KEYS", "gapura:{lockouts}:*"]);
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
