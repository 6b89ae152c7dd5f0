//! Rules whose counts a shared store holds, and what its outage does to them.

use gapura_config::model::OnOutage;

use super::*;

/// A shared store as simple as can be: fixed counts, and an outage on demand.
#[derive(Default)]
pub(super) struct Elsewhere {
    counts: Mutex<HashMap<(String, Vec<u8>), u64>>,
    pub(super) away: Mutex<bool>,
    missed: Mutex<Vec<(String, u64)>>,
}

impl SharedCounters for Elsewhere {
    fn charge<'a>(&'a self, _: Now, demands: &'a [Demand<'a>]) -> Pending<'a, Vec<Option<Counted>>> {
        Box::pin(async move {
            if *self.away.lock() {
                return vec![None; demands.len()];
            }
            let mut counts = self.counts.lock();
            let mut counted = Vec::new();
            for demand in demands {
                let used = counts.entry((demand.rule.into(), demand.key.into())).or_default();
                let free = demand.quota.limit - *used;
                let allowed = demand.cost <= free;
                let remaining = if allowed { free - demand.cost } else { free };
                let wait = demand.quota.window;
                counted.push(Counted { verdict: Verdict { allowed, remaining, wait }, at: 7 });
            }
            let agrees = |(counted, demand): (&Counted, &Demand<'_>)| counted.verdict.allowed || !demand.binding;
            if counted.iter().zip(demands).all(agrees) {
                for (demand, _) in demands.iter().zip(&counted).filter(|(_, counted)| counted.verdict.allowed) {
                    *counts.entry((demand.rule.into(), demand.key.into())).or_default() += demand.cost;
                }
            }
            counted.into_iter().map(Some).collect()
        })
    }

    fn refund<'a>(&'a self, _: Now, charged: &'a [(Demand<'a>, u64)]) -> Pending<'a, ()> {
        Box::pin(async move {
            for (demand, at) in charged {
                assert_eq!(*at, 7);
                *self.counts.lock().entry((demand.rule.into(), demand.key.into())).or_default() -= demand.cost;
            }
        })
    }

    fn missed(&self, demand: &Demand<'_>, held: u64) {
        self.missed.lock().push((demand.rule.to_owned(), held));
    }
}

#[test]
fn a_shared_store_decides_and_its_outage_does_what_the_operator_said() {
    let elsewhere = Arc::new(Elsewhere::default());
    let of = |on_outage| CounterStore::Shared {
        shared: elsewhere.clone(),
        local: Arc::new(MemoryCounters::new(1000)),
        on_outage,
    };
    let rules = [("general", rule(3, "client_ip")), ("per user", rule(1, "user"))];
    let [gate, open, closed] = [OnOutage::Local, OnOutage::Open, OnOutage::Closed]
        .map(|on_outage| Gate::over(of(on_outage), "payments", &rules));
    assert!(gate.user("u1", 10).is_ok());
    (0..9).for_each(|_| assert_eq!(fields(&gate.user("u1", 10).unwrap_err())[0], ("retry-after", "61")));
    assert!(gate.user("u2", 10).is_ok() && gate.user("u3", 10).is_ok());
    assert!(gate.user("u4", 10).is_err());

    // Of a rule that does not count such requests nothing is asked, not even whether the store is there.
    let writes = model::RateLimit { methods: vec!["POST".into()], ..rule(1, "global") };
    let other = Gate::over(of(OnOutage::Closed), "other", &[("writes", writes)]);
    *elsewhere.away.lock() = true;
    assert!(other.from("192.0.2.1").is_ok());

    assert!(gate.user("u4", 10).is_err(), "it has let three pass itself, whoever counted them");
    assert!(gate.user("u4", 80).is_ok() && gate.user("u4", 80).is_err(), "this instance counts for itself");
    // What passed is told to the store, what a counter held after it.
    assert_eq!(
        *elsewhere.missed.lock(),
        [("general".to_owned(), 1), ("per user".to_owned(), 1), ("general".to_owned(), 2)]
    );
    assert!((0..5).all(|_| open.user("u4", 10).is_ok()));
    assert_eq!(closed.user("u4", 10).unwrap_err().code, Code::Overloaded);
}

/// Whatever a store does: it answers now and then, and has forgotten everything.
#[test]
fn one_instance_never_lets_more_than_the_limit_pass() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let elsewhere = Arc::new(Elsewhere::default());
        let local = Arc::new(MemoryCounters::new(1000));
        let store = CounterStore::Shared { shared: elsewhere.clone(), local, on_outage: OnOutage::Local };
        let general = model::RateLimit { algorithm, ..rule(20, "client_ip") };
        let gate = Gate::over(store, "payments", &[("general", general), ("per user", rule(7, "user"))]);
        let mut passed = 0;
        for turn in 0..100 {
            *elsewhere.away.lock() = turn % 3 == 1;
            elsewhere.counts.lock().values_mut().filter(|_| turn % 5 == 0).for_each(|count| *count = 0);
            passed += u32::from(gate.user(["u1", "u2"][turn % 2], 10).is_ok());
        }
        assert_eq!(passed, 14, "{algorithm:?}: what a later rule refuses is given back");
        passed += (0..100).filter(|_| gate.user("u3", 10).is_ok()).count() as u32;
        assert_eq!(passed, 20, "{algorithm:?}");
    }
}

/// What others of its network have charged to the counter that it shares with them.
#[test]
fn a_key_without_room_is_not_held_back_while_the_store_answers() {
    let elsewhere = Arc::new(Elsewhere::default());
    let local = Arc::new(MemoryCounters::new(1));
    let store = CounterStore::Shared { shared: elsewhere.clone(), local, on_outage: OnOutage::Local };
    let gate = Gate::over(store, "payments", &[("general", rule(2, "client_ip"))]);
    for address in ["203.0.113.1", "192.0.2.1", "192.0.2.2", "192.0.2.3"] {
        assert!((0..2).all(|_| gate.from(address).is_ok()) && gate.from(address).is_err());
    }
    *elsewhere.away.lock() = true;
    assert!(gate.from("192.0.2.4").is_err(), "then its network's counter decides");
}

/// Each rule has its own; what a rule has charged is given back where another one refuses.
#[test]
fn an_outage_is_a_matter_of_each_rule() {
    let elsewhere = Arc::new(Elsewhere::default());
    let local = Arc::new(MemoryCounters::new(1000));
    let store = CounterStore::Shared { shared: elsewhere.clone(), local, on_outage: OnOutage::Open };
    let own = |on_outage, rule| model::RateLimit { on_outage: Some(on_outage), ..rule };
    let gate = Gate::over(
        store.clone(),
        "payments",
        &[("passes", rule(1, "client_ip")), ("counts", own(OnOutage::Local, rule(2, "client_ip")))],
    );
    *elsewhere.away.lock() = true;
    assert!(gate.from("192.0.2.1").is_ok() && gate.from("192.0.2.1").is_ok());
    assert_eq!(gate.from("192.0.2.1").unwrap_err().code, Code::RateLimited);
    let strict = Gate::over(
        store,
        "payments",
        &[("counts", own(OnOutage::Local, rule(9, "global"))), ("strict", own(OnOutage::Closed, rule(9, "global")))],
    );
    (0..20).for_each(|_| assert_eq!(strict.from("192.0.2.1").unwrap_err().code, Code::Overloaded));
    *elsewhere.away.lock() = false;
    assert!(strict.from("192.0.2.1").is_ok());
}
