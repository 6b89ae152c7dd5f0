//! Revoked tokens: what one instance was told all hold, whatever becomes of Redis.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gapura_config::model::OnOutage;
use gapura_filters::authentication::{MAX_REVOCATIONS, Revocation, RevocationEntry, SharedRevocations, Unpublished};

use crate::{AMPLE, Instance, run, server::Server, until};

const METHOD: &str = "jwt.users";

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// As the admin listener does it.
pub(crate) async fn revoke(instance: &Instance, jti: &str, until: Option<u64>) -> Result<(), Unpublished> {
    let entry = hold(instance, jti, until);
    instance.store.publish(&entry).await
}

/// On this instance only.
fn hold(instance: &Instance, jti: &str, until: Option<u64>) -> RevocationEntry {
    let revocation = Revocation::Token { jti: jti.to_owned() };
    instance.store.revocations().revoke(METHOD, &revocation, until, now_ms()).unwrap()
}

pub(crate) fn held(instance: &Instance) -> usize {
    instance.store.revocations().entries(now_ms()).len()
}

#[test]
fn what_one_was_told_all_hold_and_it_ends_by_itself() {
    run(async {
        let server = Server::start();
        let (one, other) = (Instance::of(&server).await, Instance::of(&server).await);
        let soon = now_ms() + 6000;
        assert_eq!(revoke(&one, "for-ever", None).await, Ok(()));
        assert_eq!(revoke(&other, "for-a-while", Some(soon)).await, Ok(()));
        until(async || held(&one) == 2 && held(&other) == 2).await;
        // Only a new one makes an instance look at what it has verified again.
        let generations = || [&one, &other].map(|instance| instance.store.revocations().generation());
        let before = generations();
        assert_eq!(revoke(&one, "for-ever", None).await, Ok(()));
        assert_eq!(generations(), [before[0] + 1, before[1]]);
        // No name of anybody in it.
        let marks: Vec<Vec<u8>> = server.ask(&["HKEYS", "gapura:{revocations}:marks"]);
        assert!(marks.len() == 2 && marks.iter().all(|mark| mark.len() == 17));
        until(async || now_ms() > soon).await;
        assert_eq!((held(&one), held(&other)), (1, 1));
        assert_eq!(revoke(&one, "another", Some(now_ms() + 60_000)).await, Ok(()));
        assert_eq!(server.ask::<usize>(&["ZCARD", "gapura:{revocations}:changes"]), 2, "what has ended is gone");
    });
}

#[test]
fn all_of_it_goes_with_the_last() {
    run(async {
        let server = Server::start();
        let one = Instance::of(&server).await;
        assert_eq!(revoke(&one, "a", Some(now_ms() + 500)).await, Ok(()));
        until(async || server.ask::<Vec<String>>(&["KEYS", "gapura:{revocations}:*"]).is_empty()).await;
    });
}

/// As many as may be: what it costs to write them, to learn them, and to hold them.
#[test]
fn a_hundred_thousand() {
    run(async {
        let mut server = Server::start();
        server.kill();
        let one = Instance::new(&server.url(), OnOutage::Local, AMPLE);
        for number in 0..MAX_REVOCATIONS {
            hold(&one, &number.to_string(), None);
        }
        server.restart();
        one.is(true).await;
        let start = Instant::now();
        until(async || server.ask::<usize>(&["ZCARD", "gapura:{revocations}:changes"]) == MAX_REVOCATIONS).await;
        let written = start.elapsed();
        let memory: usize = ["version", "changes", "marks", "ends"]
            .iter()
            .map(|key| {
                server.ask::<Option<usize>>(&[
                    "MEMORY",
                    "USAGE",
                    &format!("gapura:{{revocations}}:{key}"),
                    "SAMPLES",
                    "0",
                ])
            })
            .map(Option::unwrap_or_default)
            .sum();
        let start = Instant::now();
        let other = Instance::of(&server).await;
        until(async || held(&other) == MAX_REVOCATIONS).await;
        println!(
            "{MAX_REVOCATIONS} revocations: written in {:.1} s, learned by a new instance in {:.1} s, {} MiB in Redis",
            written.as_secs_f64(),
            start.elapsed().as_secs_f64(),
            memory >> 20
        );
        // One more is not forgotten in silence; one that is known is no more.
        let third = Instance::of(&server).await;
        assert_eq!(revoke(&third, "one more", None).await, Err(Unpublished::Full));
        assert_eq!(revoke(&third, "7", None).await, Ok(()));
    });
}

/// A replica that took over without the last writes has the same name and a lower number; an empty Redis has neither.
#[test]
fn what_redis_forgets_it_is_told_again() {
    run(async {
        let server = Server::start();
        let instances = [Instance::of(&server).await, Instance::of(&server).await];
        for (instance, jti) in instances.iter().zip(["a", "b"]) {
            assert_eq!(revoke(instance, jti, None).await, Ok(()));
        }
        until(async || instances.iter().all(|instance| held(instance) == 2)).await;
        let forgets: [&[&str]; 2] = [
            &[
                "EVAL",
                "local v = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], string.match(v, '^%x+ ') .. '1'); \
               redis.call('DEL', KEYS[2], KEYS[3], KEYS[4]); return 'OK'",
                "4",
                "gapura:{revocations}:version",
                "gapura:{revocations}:changes",
                "gapura:{revocations}:marks",
                "gapura:{revocations}:ends",
            ],
            &["FLUSHALL"],
        ];
        for forget in forgets {
            let _: String = server.ask(forget);
            until(async || server.ask::<usize>(&["ZCARD", "gapura:{revocations}:changes"]) == 2).await;
            let third = Instance::of(&server).await;
            until(async || held(&third) == 2).await;
        }
    });
}
