//! What a rule can say beyond its limit: combinations, methods, observation, costs.

use gapura_config::model::OnOutage;

use super::{shared::Elsewhere, *};

#[test]
fn a_combination_counts_each_of_its_values_apart() {
    let store = || CounterStore::Memory(Arc::new(MemoryCounters::new(1000)));
    let rules = || [("both", rule(1, "route + user"))];
    let first = Gate::over(store(), "first", &rules());
    let second = Gate::over(first.counters.clone(), "second", &rules());
    assert!(first.stages[0].is_none(), "it is known when its last part is: after authentication");
    assert!(first.user("u1", 10).is_ok() && first.user("u1", 10).is_err());
    assert!(second.user("u1", 10).is_ok() && second.user("u1", 10).is_err());
    assert!(first.user("u2", 10).is_ok());
    // Each of the parts may be absent, and is then the same for all.
    assert!(first.from("192.0.2.1").is_ok() && first.from("198.51.100.1").is_err());
    assert_eq!(
        first.stages[1].as_ref().unwrap().explain()[0],
        "both: 1 per 60 s by route + user, sliding_window (60 slices of 1 s): never more than 1 in any 60 s"
    );
    // A list of one is that one.
    let one = rule(1, "client_ip");
    let listed = model::RateLimit { by: LimitBy::Each(one.by.keys().to_vec()), ..one.clone() };
    let single = Gate::over(store(), "r", &[("general", one)]);
    assert!(single.from("192.0.2.1").is_ok());
    assert!(Gate::over(single.counters.clone(), "r", &[("general", listed)]).from("192.0.2.1").is_err());
}

#[test]
fn only_requests_with_the_methods_of_a_rule_are_asked_and_charged() {
    let with =
        |methods: &[&str], rule| model::RateLimit { methods: methods.iter().map(|&m| m.into()).collect(), ..rule };
    let gate = Gate::new(&[
        ("writes", with(&["POST", "PUT"], rule(2, "client_ip"))),
        ("reads", with(&["GET"], rule(3, "user"))),
    ]);
    let ask = |method: Method| {
        let head = Request::builder().method(method).body(()).unwrap().into_parts().0;
        let mut exchange = exchange("192.0.2.1", 10);
        gate.ask(&head, &mut exchange).map(|()| gate.answer(&mut exchange).get("ratelimit-policy").cloned())
    };
    let policy = |text: &'static str| Some(HeaderValue::from_static(text));
    (0..9).for_each(|_| assert_eq!(ask(Method::DELETE).unwrap(), None, "no rule is asked, and none is reported"));
    assert_eq!(ask(Method::POST).unwrap(), policy("\"writes\";q=2;w=60"));
    assert_eq!(ask(Method::PUT).unwrap(), policy("\"writes\";q=2;w=60"));
    assert_eq!(fields(&ask(Method::POST).unwrap_err())[0], ("retry-after", "61"));
    assert_eq!(ask(Method::GET).unwrap(), policy("\"reads\";q=3;w=60"));
    assert!(ask(Method::HEAD).is_ok() && ask(Method::GET).is_ok());
    assert!(ask(Method::HEAD).is_err(), "HEAD is no way around a rule for GET");
    assert!(ask(Method::DELETE).is_ok());
    let encoded = gate.metrics.encode();
    assert!(encoded.contains("gapura_rate_limit_decisions_total{result=\"allowed\",rule=\"writes\"} 2"), "{encoded}");
    assert_eq!(
        gate.stages[0].as_ref().unwrap().explain()[0],
        "writes: 2 POST, PUT per 60 s by client_ip, sliding_window (60 slices of 1 s): never more than 2 in any 60 s"
    );
}

/// With the same outcome in memory and elsewhere.
#[test]
fn a_rule_that_observes_counts_as_if_it_enforced_and_refuses_nothing() {
    let elsewhere = Arc::new(Elsewhere::default());
    let local = || Arc::new(MemoryCounters::new(1000));
    let stores = [
        CounterStore::Memory(local()),
        CounterStore::Shared { shared: elsewhere.clone(), local: local(), on_outage: OnOutage::default() },
    ];
    let observe = |rule| model::RateLimit { mode: model::LimitMode::Observe, ..rule };
    for store in stores {
        let rules = [
            ("strict", observe(rule(2, "client_ip"))),
            ("stricter", observe(rule(1, "client_ip"))),
            ("per user", rule(4, "user")),
            ("late", observe(rule(1, "user"))),
        ];
        let gate = Gate::over(store, "payments", &rules);
        let mut exchange = Exchange { principal: principal("u1", None), ..exchange("192.0.2.1", 10) };
        assert!(gate.ask(&head(&[]), &mut exchange).is_ok());
        let sent = gate.answer(&mut exchange);
        assert_eq!(sent.get_all("ratelimit-policy").iter().collect::<Vec<_>>(), ["\"per user\";q=4;w=60"]);
        assert!((0..3).all(|_| gate.user("u1", 10).is_ok()), "beyond what is observed");
        let refusal = gate.user("u1", 10).unwrap_err();
        assert_eq!(fields(&refusal)[1].1, "\"per user\";q=4;w=60");
        assert!((0..5).all(|_| gate.user("u1", 10).is_err()) && gate.user("u2", 10).is_ok());
        let encoded = gate.metrics.encode();
        for (rule, allowed, refused) in [("strict", 2, 9), ("stricter", 1, 10), ("late", 2, 9)] {
            for (result, times) in [("allowed", allowed), ("would_refuse", refused)] {
                let line =
                    format!("gapura_rate_limit_decisions_total{{result=\"{result}\",rule=\"{rule}\"}} {times}\n");
                assert!(encoded.contains(&line), "{line}{encoded}");
            }
            assert!(!encoded.contains(&format!("{{result=\"refused\",rule=\"{rule}\"}}")), "{encoded}");
        }
        assert!(gate.stages[0].as_ref().unwrap().explain()[0].ends_with("; observed only, nothing is refused"));
        // What another rule refuses is not charged to it.
        let after = Gate::over(
            gate.counters.clone(),
            "payments",
            &[("seen", observe(rule(2, "global"))), ("hard", rule(1, "client_ip"))],
        );
        assert!(after.from("192.0.2.1").is_ok() && (0..5).all(|_| after.from("192.0.2.1").is_err()));
        assert!(after.from("192.0.2.2").is_ok() && after.from("192.0.2.3").is_ok());
        let encoded = after.metrics.encode();
        assert!(encoded.contains("{result=\"would_refuse\",rule=\"seen\"} 1\n"), "{encoded}");
    }
    // Nor does the outage of a store: nobody is refused for what is only observed.
    *elsewhere.away.lock() = true;
    let store = CounterStore::Shared { shared: elsewhere, local: local(), on_outage: OnOutage::Closed };
    let observed = observe(rule(1, "client_ip"));
    assert!(Gate::over(store.clone(), "r", &[("observed", observed.clone())]).from("192.0.2.1").is_ok());
    let both = Gate::over(store, "r", &[("observed", observed), ("enforced", rule(1, "global"))]);
    assert_eq!(both.from("192.0.2.1").unwrap_err().code, Code::Overloaded);
}

#[test]
fn a_request_is_charged_what_it_costs_or_nothing() {
    let costs = |cost, rule| model::RateLimit { cost: model::LimitCost::Fixed(cost), ..rule };
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let heavy = model::RateLimit { algorithm, ..costs(4, rule(10, "client_ip")) };
        let gate = Gate::new(&[("heavy", heavy), ("per user", costs(3, rule(7, "user")))]);
        let state = |user: &str| {
            let mut exchange = Exchange { principal: principal(user, None), ..exchange("192.0.2.1", 10) };
            gate.ask(&head(&[]), &mut exchange)
                .map(|()| gate.answer(&mut exchange)["ratelimit"].to_str().unwrap().to_owned())
        };
        assert!(state("u1").unwrap().starts_with("\"per user\";r=4;"), "{algorithm:?}");
        assert!(state("u1").unwrap().starts_with("\"per user\";r=1;"));
        // Two of ten are left: less than a request costs, and nothing of it is charged to the second rule.
        (0..9).for_each(|_| assert!(fields(&state("u2").unwrap_err())[2].1.starts_with("\"heavy\";r=2;")));
        let other = Gate::over(gate.counters.clone(), "light", &[("per user", costs(7, rule(7, "user")))]);
        assert!(other.user("u2", 10).is_ok());
        // What `per user` refuses is given back to `heavy`, all four of it.
        let heavy = model::RateLimit { algorithm, ..costs(4, rule(10, "client_ip")) };
        let gate = Gate::new(&[("heavy", heavy), ("per user", costs(3, rule(7, "user")))]);
        assert!(gate.user("u1", 10).is_ok());
        let none = Gate::over(gate.counters.clone(), "none", &[("per user", costs(4, rule(7, "user")))]);
        assert!(none.user("u1", 10).is_ok());
        (0..9).for_each(|_| assert!(fields(&gate.user("u1", 10).unwrap_err())[2].1.starts_with("\"per user\";r=0;")));
        assert!(gate.user("u2", 10).is_ok() && gate.user("u3", 10).is_err());
    }
    let gate = Gate::new(&[("heavy", costs(4, rule(10, "client_ip")))]);
    assert_eq!(
        gate.stages[0].as_ref().unwrap().explain()[0],
        "heavy: 10 per 60 s by client_ip, sliding_window (60 slices of 1 s), a request costs 4: never more than 10 in any 60 s"
    );
}

/// With the same outcome in memory and elsewhere.
#[test]
fn a_response_may_tell_the_cost_and_what_it_does_not_use_is_given_back() {
    let told = |default, max, rule| {
        let cost = model::LimitCost::Told(model::ToldCost { header: "X-Cost".into(), default, max });
        model::RateLimit { cost, ..rule }
    };
    let local = || Arc::new(MemoryCounters::new(1000));
    let elsewhere = Arc::new(Elsewhere::default());
    for store in [
        CounterStore::Memory(local()),
        CounterStore::Shared { shared: elsewhere.clone(), local: local(), on_outage: OnOutage::default() },
    ] {
        let rules = [("points", told(1, 5, rule(20, "client_ip"))), ("per user", told(2, 4, rule(100, "user")))];
        let gate = Gate::over(store, "payments", &rules);
        let ask = || {
            let mut exchange = Exchange { principal: principal("u1", None), ..exchange("192.0.2.1", 10) };
            gate.ask(&head(&[]), &mut exchange).map(|()| exchange)
        };
        let left = |exchange: &Exchange| exchange.charges.tightest.unwrap().remaining;
        let mut used = 0;
        for (sent, points) in [
            (&[("x-cost", "3")] as &[(&str, &str)], 3),
            (&[], 1),
            (&[("x-cost", "0")], 0),
            (&[("x-cost", "-2")], 1),
            (&[("x-cost", "2"), ("x-cost", "1")], 1),
            (&[("x-cost", "18446744073709551616")], 5),
        ] {
            let mut asked = ask().unwrap();
            assert_eq!(left(&asked), 20 - used - 5, "reserved; and what the one before did not use came back");
            let fields = gate.answer_with(sent, &mut asked);
            assert!(!fields.contains_key("x-cost"), "it is not the client's business");
            used += points;
            assert_eq!(fields["ratelimit"].to_str().unwrap().split(';').nth(1), Some(&*format!("r={}", 20 - used)));
            gate.complete(&mut asked);
        }
        // Two at once: the second has no room as long as the first may still cost five.
        let mut first = ask().unwrap();
        let refusal = ask().unwrap_err();
        assert_eq!(fields(&refusal)[2].1.split(';').nth(1), Some(&*format!("r={}", 20 - used - 5)));
        gate.answer_with(&[("x-cost", "2")], &mut first);
        gate.complete(&mut first);
        // What the gateway itself refuses tells nothing, and is not for nothing.
        let mut guessed = ask().unwrap();
        guessed.refused = true;
        gate.answer_with(&[("x-cost", "0")], &mut guessed);
        gate.complete(&mut guessed);
        used += 1;
        // Who leaves before the response has had it all.
        let mut gone = ask().unwrap();
        assert_eq!(left(&gone), 20 - used - 2 - 5);
        gate.complete(&mut gone);
        assert_eq!(fields(&ask().unwrap_err())[2].1.split(';').nth(1), Some(&*format!("r={}", 20 - used - 2 - 5)));
    }
}

#[test]
fn after_a_refusal_a_key_stays_refused_for_the_penalty_and_retry_after_says_so() {
    let penal = |seconds, rule| model::RateLimit { penalty: Some(Period::secs(seconds)), ..rule };
    let short = |limit, by| model::RateLimit { window: Period::secs(2), ..rule(limit, by) };
    let gate = Gate::new(&[("burst", penal(30, short(1, "client_ip")))]);
    let from = |ip: &str, seconds| gate.ask(&head(&[]), &mut exchange(ip, seconds));
    assert!(from("192.0.2.1", 10).is_ok());
    assert_eq!(
        fields(&from("192.0.2.1", 10).unwrap_err()),
        [("retry-after", "30"), ("ratelimit-policy", "\"burst\";q=1;w=2"), ("ratelimit", "\"burst\";r=0;t=30")]
    );
    // The window is over, the penalty is not; and what is refused meanwhile does not make it longer.
    assert_eq!(fields(&from("192.0.2.1", 25).unwrap_err())[0], ("retry-after", "15"));
    assert_eq!(fields(&from("192.0.2.1", 39).unwrap_err())[0], ("retry-after", "1"));
    assert!(from("192.0.2.2", 39).is_ok(), "it is of one key");
    assert!(from("192.0.2.1", 40).is_ok());
    // The longer of both is told: here the window.
    let gate = Gate::new(&[("slow", penal(5, rule(1, "client_ip")))]);
    assert!(gate.from("192.0.2.1").is_ok());
    assert_eq!(fields(&gate.from("192.0.2.1").unwrap_err())[0], ("retry-after", "61"));
    assert_eq!(
        gate.stages[0].as_ref().unwrap().explain(),
        [
            "slow: 1 per 60 s by client_ip, sliding_window (60 slices of 1 s): never more than 1 in any 60 s; after a refusal, none for 5 s",
            "  worst case 1 in any 60 s, sustained at least 0; 112 bytes per key in memory",
        ]
    );
}

/// The counts stay, whether a penalty comes or goes.
#[test]
fn a_reload_may_bring_a_penalty_or_lift_it() {
    let penal = |rule| model::RateLimit { penalty: Some(Period::secs(600)), ..rule };
    let before = Gate::new(&[("general", rule(3, "client_ip"))]);
    assert!((0..2).all(|_| before.from("192.0.2.1").is_ok()));
    let with = Gate::over(before.counters.clone(), "payments", &[("general", penal(rule(3, "client_ip")))]);
    assert!(with.from("192.0.2.1").is_ok());
    assert_eq!(fields(&with.from("192.0.2.1").unwrap_err())[0], ("retry-after", "600"));
    let at = |gate: &Gate, seconds| gate.ask(&head(&[]), &mut exchange("192.0.2.1", seconds));
    assert!(at(&with, 500).is_err());
    // With a larger limit, that its counters have to be laid out for.
    let wider = Gate::over(with.counters.clone(), "payments", &[("general", penal(rule(3000, "client_ip")))]);
    assert_eq!(fields(&at(&wider, 600).unwrap_err())[0], ("retry-after", "10"));
    let lifted = Gate::over(with.counters.clone(), "payments", &[("general", rule(3, "client_ip"))]);
    assert!(at(&lifted, 600).is_ok());
}

/// Where no room is left clients share a counter with their network: it is not refused for one of them.
#[test]
fn a_network_is_not_punished_for_one_of_its_clients() {
    let store = CounterStore::Memory(Arc::new(MemoryCounters::new(1)));
    let short = model::RateLimit { window: Period::secs(2), penalty: Some(Period::secs(600)), ..rule(1, "client_ip") };
    let gate = Gate::over(store, "payments", &[("general", short)]);
    let at = |ip: &str, seconds| gate.ask(&head(&[]), &mut exchange(ip, seconds));
    assert!(at("203.0.113.1", 10).is_ok() && at("203.0.113.1", 10).is_err());
    assert!(at("192.0.2.1", 10).is_ok() && at("192.0.2.1", 10).is_err(), "shared");
    assert!(at("203.0.113.1", 20).is_err(), "its own");
    assert!(at("192.0.2.2", 20).is_ok(), "shared");
}

#[test]
fn no_value_reads_as_the_end_of_one_part_and_the_beginning_of_the_next() {
    let gate = Gate::new(&[("pair", rule(1, "header:x-a + header:x-b"))]);
    let values = [None, Some(""), Some("v"), Some("vv"), Some("vvv"), Some("a"), Some("va"), Some("av"), Some("x")];
    let mut asked = 0;
    for a in values {
        for b in values {
            let fields = [("x-a", a), ("x-b", b)].map(|(name, value)| Some((name, value?)));
            let fields: Vec<_> = fields.into_iter().flatten().collect();
            assert!(
                gate.ask(&head(&fields), &mut exchange("192.0.2.1", 10)).is_ok(),
                "{a:?} {b:?} is a pair of its own"
            );
            assert!(gate.ask(&head(&fields), &mut exchange("192.0.2.1", 10)).is_err());
            asked += 1;
        }
    }
    assert_eq!(asked, values.len() * values.len());
}
