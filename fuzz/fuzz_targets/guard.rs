//! A guard, from its text to a decision.
#![no_main]

use std::{sync::Arc, time::Duration};

use gapura_config::{guard::parse, model};
use gapura_filters::{
    contract::{Claim, Exchange, Now, Principal, UserId},
    guard::Guard,
};
use libfuzzer_sys::fuzz_target;

fn caller() -> Principal {
    let claims = [("a", Claim::Text("7".into())), ("b", Claim::Bool(true)), ("c", Claim::List(vec!["x".into()]))];
    Principal {
        method: "jwt.users".into(),
        user_id: UserId::string("7"),
        email: None,
        roles: vec!["x".into()],
        permissions: Vec::new(),
        api_key: None,
        token_id: None,
        expires: None,
        limits: Default::default(),
        claims: claims.into_iter().map(|(name, claim)| (name.to_owned(), claim)).collect(),
    }
}

fuzz_target!(|text: &str| {
    match parse(text) {
        Err(mistake) => {
            assert!(text.get(mistake.at).is_some());
            assert!(!mistake.message.is_empty() && !mistake.help.is_empty());
        }
        Ok(condition) => {
            let route = serde_json::json!({ "name": "r", "path": "/u/{a}/{b}", "upstream": "u", "guard": text });
            let route: model::Route = serde_json::from_value(route).expect("a route");
            let guard = Guard::new(&route).expect("it was read just now");
            let request = http::Request::get("/u/7/%37").header("x-a", "7").body(()).expect("a request");
            let head = request.into_parts().0;
            let now = Now { monotonic: Duration::ZERO, unix_ms: 0 };
            let mut exchange = Exchange::new(now, [10, 0, 0, 1].into());
            exchange.target = head.uri.path_and_query().expect("a path").clone();
            let without = guard.holds(&head, &exchange);
            exchange.principal = Some(Arc::new(caller()));
            let with = guard.holds(&head, &exchange);
            // More knowledge never turns a decision around.
            assert!(without.is_none() || without == with);
            assert!(condition.needs_caller() || without == with);
        }
    }
});
