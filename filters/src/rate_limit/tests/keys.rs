//! API keys with limits of their own.

use gapura_config::model::{ApiKey, ApiKeys, Named, ToldCost};

use super::*;

/// The table `developers`, each key with its limits.
fn developers(keys: &[(&str, &[(&str, u64)])]) -> Named<ApiKeys> {
    let key = |(id, limits): &(&str, &[(&str, u64)])| ApiKey {
        id: (*id).to_owned(),
        hash: String::new(),
        user_id: "u".to_owned(),
        email: None,
        roles: Vec::new(),
        permissions: Vec::new(),
        limits: limits.iter().map(|&(rule, limit)| (rule.to_owned(), limit)).collect(),
        allow: None,
        expires: None,
    };
    let salt = "env:SALT".parse().unwrap();
    let table =
        ApiKeys { header: String::new(), scheme: None, salt, database: None, keys: keys.iter().map(key).collect() };
    [("developers".to_owned(), table)].into()
}

impl Gate {
    fn with_keys(counters: CounterStore, rules: Rules, keys: &Named<ApiKeys>) -> Self {
        let gate = Self::over(counters, "payments", rules);
        let rules: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule)).collect();
        let stages = gate.stages.map(|limits| limits.map(|limits| limits.with_keys(&rules, keys).unwrap()));
        Self { stages, ..gate }
    }

    /// What the response says of the limit, or how it was refused.
    fn key(&self, user: &str, key: &str) -> Result<HeaderMap, Refusal> {
        let mut exchange = Exchange { principal: principal(user, Some(key)), ..exchange("192.0.2.1", 10) };
        self.ask(&head(&[]), &mut exchange)?;
        let answered = self.answer_with(&[("x-cost", "1")], &mut exchange);
        self.complete(&mut exchange);
        Ok(answered)
    }
}

fn store() -> CounterStore {
    CounterStore::Memory(Arc::new(MemoryCounters::new(1000)))
}

fn of(algorithm: LimitAlgorithm, rule: model::RateLimit) -> model::RateLimit {
    model::RateLimit { algorithm, ..rule }
}

#[test]
fn a_key_has_the_limit_of_its_record_and_others_have_the_rules() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let rules = [("api", of(algorithm, rule(3, "api_key")))];
        let keys = developers(&[("many", &[("api", 300)]), ("few", &[("api", 1), ("other", 9)]), ("usual", &[])]);
        let gate = Gate::with_keys(store(), &rules, &keys);
        for (key, limit) in [("many", 300), ("few", 1), ("usual", 3), ("unknown", 3)] {
            let passed = (0..400).filter(|_| gate.key("u", key).is_ok()).count();
            assert_eq!(passed, limit, "{algorithm:?} {key}");
            let refusal = gate.key("u", key).unwrap_err();
            assert_eq!(fields(&refusal)[1], ("ratelimit-policy", format!("\"api\";q={limit};w=60").as_str()));
        }
        // A user who has the id of a key is not that key.
        assert_eq!((0..400).filter(|_| gate.user("many", 10).is_ok()).count(), 3);
    }
}

#[test]
fn the_response_tells_the_limit_that_holds() {
    let rules = [("api", rule(3, "api_key"))];
    let gate = Gate::with_keys(store(), &rules, &developers(&[("many", &[("api", 70_000)])]));
    let told = |key| {
        let fields = gate.key("u", key).unwrap();
        [&fields["ratelimit-policy"], &fields["ratelimit"]].map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(told("many"), ["\"api\";q=70000;w=60", "\"api\";r=69999;t=61"]);
    assert_eq!(told("usual"), ["\"api\";q=3;w=60", "\"api\";r=2;t=61"]);
    let explained = gate.stages[1].as_ref().unwrap().explain();
    assert_eq!(
        explained[1..],
        [
            "  worst case 3 in any 60 s, sustained at least 2; 208 bytes per key in memory",
            "  key many of api_keys.developers: 70000 instead",
        ]
    );
    let all: Vec<_> = (0..12).map(|n| format!("k{n:02}")).collect();
    let all: Vec<(&str, &[(&str, u64)])> = all.iter().map(|id| (id.as_str(), &[("api", 5)][..])).collect();
    let explained = Gate::with_keys(store(), &rules, &developers(&all)).stages[1].as_ref().unwrap().explain();
    assert_eq!(explained.len(), 2 + 8 + 1);
    assert_eq!(explained[10], "  and 4 more keys with limits of their own");
}

/// Keys of a database change under a policy: their limits come with the caller.
#[test]
fn a_limit_that_comes_with_the_key_holds_as_one_that_is_written() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let rules = [("api", of(algorithm, rule(3, "api_key"))), ("user", rule(100_000, "user"))];
        let mut keys = developers(&[("written", &[("api", 7)])]);
        keys.get_mut("developers").unwrap().database = Some("sqlite:/nowhere".parse().unwrap());
        let gate = Gate::with_keys(store(), &rules, &keys);
        let passed = |key: &str, limits: &str| {
            let mut caller = Arc::unwrap_or_clone(principal("u", Some(key)).unwrap());
            caller.limits = limits.parse().unwrap();
            let caller = Some(Arc::new(caller));
            let pass =
                || gate.ask(&head(&[]), &mut Exchange { principal: caller.clone(), ..exchange("192.0.2.1", 10) });
            (0..5000).filter(|_| pass().is_ok()).count()
        };
        // Of a sliding log 4096 are the most: then the rule's own holds.
        let most = if algorithm == LimitAlgorithm::SlidingLog { 3 } else { 4500 };
        for (key, limits, count) in [
            ("a", "api=300", 300),
            ("b", "api=1,user=2", 1),
            ("c", "", 3),
            ("d", "other=9", 3),
            ("written", "api=9", 7),
            ("e", "api=4500", most),
        ] {
            assert_eq!(passed(key, limits), count, "{algorithm:?} {key}");
        }
        // The limit is raised, and what was counted goes on counting; `gcra` keeps the time until which it is used up.
        let more = if algorithm == LimitAlgorithm::Gcra { 0 } else { 10 };
        assert_eq!(passed("a", "api=310"), more, "{algorithm:?}");
    }
}

#[test]
fn different_limits_are_bounded() {
    let rules = [("api", rule(3, "api_key"))];
    let mut keys = developers(&[]);
    keys.get_mut("developers").unwrap().database = Some("sqlite:/nowhere".parse().unwrap());
    let gate = Gate::with_keys(CounterStore::Memory(Arc::new(MemoryCounters::new(10_000))), &rules, &keys);
    for limit in 1..=4200_u64 {
        let mut caller = Arc::unwrap_or_clone(principal("u", Some(&limit.to_string())).unwrap());
        caller.limits = format!("api={limit}").parse().unwrap();
        let mut exchange = Exchange { principal: Some(Arc::new(caller)), ..exchange("192.0.2.1", 10) };
        gate.ask(&head(&[]), &mut exchange).unwrap();
        let told = gate.answer(&mut exchange)["ratelimit-policy"].to_str().unwrap().to_owned();
        let holds = if limit <= 4096 { limit } else { 3 };
        assert_eq!(told, format!("\"api\";q={holds};w=60"));
    }
}

/// A refund is reckoned by the limit that the charge was: with that of the rule `gcra` would give back a hundred times as much.
#[test]
fn what_a_later_rule_refuses_is_given_back_as_it_was_charged() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let rules = [("api", of(algorithm, rule(3, "api_key"))), ("user", rule(1, "user"))];
        let gate = Gate::with_keys(store(), &rules, &developers(&[("many", &[("api", 300)])]));
        for n in 0..300 {
            assert!(gate.key(&n.to_string(), "many").is_ok(), "{algorithm:?} {n}");
            assert!(gate.key(&n.to_string(), "many").is_err());
        }
        assert!(gate.key("next", "many").is_err(), "{algorithm:?}");
    }
}

#[test]
fn what_a_response_does_not_use_is_given_back_as_it_was_reserved() {
    for algorithm in [LimitAlgorithm::SlidingWindow, LimitAlgorithm::SlidingLog, LimitAlgorithm::Gcra] {
        let told = ToldCost { header: "X-Cost".to_owned(), default: 1, max: 3 };
        let rule = model::RateLimit { cost: model::LimitCost::Told(told), ..rule(3, "api_key") };
        let keys = developers(&[("many", &[("api", 300)])]);
        let gate = Gate::with_keys(store(), &[("api", of(algorithm, rule))], &keys);
        // Each costs one in the end, and the last three that are left can be reserved.
        assert_eq!((0..400).filter(|_| gate.key("u", "many").is_ok()).count(), 298, "{algorithm:?}");
    }
}

#[test]
fn a_combination_has_the_limit_of_its_key() {
    let rules = [("both", rule(1, "api_key + user"))];
    let gate = Gate::with_keys(store(), &rules, &developers(&[("many", &[("both", 2)])]));
    for user in ["a", "b"] {
        let passed = |key| (0..5).filter(|_| gate.key(user, key).is_ok()).count();
        assert_eq!((passed("many"), passed("usual")), (2, 1));
    }
}

#[test]
fn a_reload_that_changes_it_forgets_no_count() {
    let rules = [("api", rule(3, "api_key"))];
    let counters = store();
    let passed = |limits: &[(&str, u64)]| {
        let gate = Gate::with_keys(counters.clone(), &rules, &developers(&[("ci", limits)]));
        (0..2000).filter(|_| gate.key("u", "ci").is_ok()).count()
    };
    assert_eq!([passed(&[("api", 5)]), passed(&[("api", 1000)]), passed(&[("api", 20)]), passed(&[])], [5, 995, 0, 0]);
}

#[test]
fn what_the_rule_cannot_take_is_told_with_its_place() {
    let rules = [("api", of(LimitAlgorithm::SlidingLog, rule(3, "api_key")))];
    let gate = Gate::new(&rules);
    let [_, limits] = gate.stages;
    let named: Vec<_> = rules.iter().map(|(name, rule)| (*name, rule)).collect();
    let faults = limits.unwrap().with_keys(&named, &developers(&[("many", &[("api", 5000)])])).err().unwrap();
    assert_eq!(faults[0].0, "api_keys.developers.keys");
    assert!(faults[0].1.starts_with("key `many`: `sliding_log` remembers"), "{}", faults[0].1);
}
