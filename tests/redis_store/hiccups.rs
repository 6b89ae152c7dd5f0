//! A Redis that answers late now and then, and `on_outage = "local"`: each instance holds the limit by itself.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use gapura_config::{
    model::{self, OnOutage, RedisMode},
    units::Period,
};
use gapura_filters::{
    contract::{Exchange, Filter, Now, Stage},
    rate_limit::{CounterStore, MemoryCounters, RateLimits},
};
use http::Request;
use tokio::time::{Instant, sleep};

use crate::{Instance, MINUTE, run, server::Server};

const LIMIT: u64 = 120;

/// As a route asks.
fn limits(instance: &Instance) -> Arc<RateLimits> {
    let rule = model::RateLimit::new(LIMIT, Period(MINUTE * 60), model::LimitKey::Global);
    let counters = CounterStore::Shared {
        shared: instance.store.clone(),
        local: Arc::new(MemoryCounters::new(1000)),
        on_outage: OnOutage::Local,
    };
    let limits = RateLimits::over("", &[("r", &rule)], Stage::ClientLimits, &counters, &instance.metrics);
    Arc::new(limits.unwrap().unwrap())
}

/// How many pass of those that come for half a second, while Redis pauses for longer than the budget again and again.
async fn passed(mode: RedisMode, instances: usize, connections: usize) -> (u64, u64) {
    // Pauses end with a tick of its timer: ten a second would make them longer.
    let server = Server::with(&["--hz", "500"]);
    let change = |redis| model::Redis {
        mode,
        instances: Some(instances as u64),
        timeout: Period(Duration::from_millis(20)),
        ..redis
    };
    let instances: Vec<_> = (0..instances).map(|_| Instance::with(&server.url(), change)).collect();
    for instance in &instances {
        instance.is(true).await;
    }
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let tasks: Vec<_> = instances
        .iter()
        .map(limits)
        .flat_map(|limits| (0..connections).map(move |_| limits.clone()))
        .map(|limits| {
            tokio::spawn(async move {
                let (head, mut passed) = (Request::new(()).into_parts().0, 0);
                while start.elapsed() < Duration::from_millis(500) {
                    let now = Now { monotonic: start.elapsed(), unix_ms: 0 };
                    let mut exchange = Exchange::new(now, IpAddr::from([192, 0, 2, 1]));
                    passed += u64::from(limits.on_request(&head, &mut exchange).await.is_ok());
                    sleep(Duration::from_millis(2)).await;
                }
                passed
            })
        })
        .collect();
    let pauses = {
        let over = over.clone();
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let () = server.ask(&["CLIENT", "PAUSE", "30"]);
                thread::sleep(Duration::from_millis(60));
            }
            server
        })
    };
    let mut passed = 0;
    for task in tasks {
        passed += task.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let _server = pauses.join().unwrap();
    (passed, instances.iter().map(|instance| instance.calls("late")).sum())
}

#[test]
fn no_hiccup_lets_one_instance_pass_more_than_the_limit() {
    run(async {
        let mut hiccups = 0;
        for mode in [RedisMode::Sync, RedisMode::Adaptive] {
            // Of a few at once Redis goes on being asked; of many the breaker opens, and others wait for a question of their key.
            for (instances, connections) in [(1, 2), (3, 2), (1, 40), (3, 40)] {
                let (passed, late) = passed(mode, instances, connections).await;
                println!("{mode:?}, {instances} x {connections}: {passed} pass at a limit of {LIMIT}, {late} late");
                assert!((1..=LIMIT * instances as u64).contains(&passed), "{passed}");
                hiccups += late;
            }
        }
        assert!(hiccups > 0);
    });
}
