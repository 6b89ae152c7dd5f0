//! What is true passes; what is false, absent or of another type does not, however it is negated.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::contract::{Now, UserId};

fn guard(path: &str, guard: &str) -> Guard {
    let route = serde_json::json!({ "name": "r", "path": path, "upstream": "u", "guard": guard });
    assert!(guard::parse(guard).is_ok(), "{guard}");
    Guard::new(&serde_json::from_value(route).unwrap()).unwrap()
}

fn alice() -> Principal {
    let claims = [
        ("sub", Claim::Text("u-1".into())),
        ("level", Claim::Text("3".into())),
        ("org.id", Claim::Text("7".into())),
        ("verified", Claim::Bool(true)),
        ("admin", Claim::Bool(false)),
        ("groups", Claim::List(vec!["a".into(), "b".into()])),
        ("scope", Claim::Text("read write".into())),
    ];
    Principal {
        method: "jwt.users".into(),
        user_id: UserId::string("u-1"),
        email: Some("a@b.c".into()),
        roles: vec!["clerk".into()],
        permissions: vec!["PAY".into()],
        api_key: None,
        token_id: None,
        expires: None,
        limits: Default::default(),
        claims: claims.into_iter().map(|(name, claim)| (name.to_owned(), claim)).collect(),
    }
}

/// GET, from 10.0.0.1, with `X-Tenant: t1` and two of `X-Twice`.
fn ask(guard: &Guard, path: &str, principal: Option<Principal>) -> Option<bool> {
    let now = Now { monotonic: std::time::Duration::ZERO, unix_ms: 0 };
    let mut exchange = Exchange::new(now, [10, 0, 0, 1].into());
    exchange.target = path.parse().unwrap();
    exchange.principal = principal.map(Arc::new);
    let request = http::Request::get(path).header("x-tenant", "t1").header("x-twice", "1").header("x-twice", "1");
    guard.holds(&request.body(()).unwrap().into_parts().0, &exchange)
}

const PATTERN: &str = "/users/{user_id}/orders/{order}/**";

#[test]
fn conditions_are_what_they_say() {
    for (condition, expected) in [
        ("path.user_id == claims.sub", Some(true)),
        ("path.user_id == user.id && method == 'GET'", Some(true)),
        ("path.user_id != claims.sub", Some(false)),
        ("path.order == claims.sub", Some(false)),
        ("path.order == 12 && claims.org.id == 7", Some(true)),
        ("claims.level in [1, 2, 3]", Some(true)),
        ("claims.level in ['4', 5]", Some(false)),
        ("claims.verified && !claims.admin", Some(true)),
        ("claims.verified == true && claims.admin != true", Some(true)),
        ("'a' in claims.groups && !('c' in claims.groups)", Some(true)),
        ("'write' in claims.scope && !('rea' in claims.scope)", Some(true)),
        ("'clerk' in user.roles && 'PAY' in user.permissions && user.email == 'a@b.c'", Some(true)),
        ("header.X-Tenant == 't1'", Some(true)),
        ("client_ip == '10.0.0.1' && client_ip in ['192.0.2.1', '10.0.0.0/8']", Some(true)),
        ("client_ip != '10.0.0.1'", Some(false)),
        ("!(client_ip in ['::/0'])", Some(true)),
        ("method == 'PUT' || method == 'GET' && claims.verified", Some(true)),
        ("(method == 'PUT' || method == 'GET') && claims.admin", Some(false)),
    ] {
        assert_eq!(ask(&guard(PATTERN, condition), "/users/u-1/orders/12/x", Some(alice())), expected, "{condition}");
    }
}

#[test]
fn what_is_absent_opens_nothing() {
    for condition in [
        "claims.missing == 'x'",
        "claims.missing != 'x'",
        "!(claims.missing == 'x')",
        "!!(claims.missing != 'x')",
        "claims.missing",
        "!claims.missing",
        "!(claims.missing in ['x'])",
        "!('x' in claims.missing)",
        "!claims.sub",
        "!('x' in claims.verified)",
        "!(claims.verified in claims.groups)",
        "!(claims.verified in ['true'])",
        "claims.groups != 'a'",
        "claims.verified != 'true'",
        "header.x-other != 'x'",
        "header.x-twice == '1'",
        "header.x-twice != '2'",
        "!(claims.missing == 'x' && claims.verified)",
        "claims.missing == 'x' || claims.admin",
    ] {
        assert_eq!(ask(&guard(PATTERN, condition), "/users/u-1/orders/12", Some(alice())), None, "{condition}");
    }
    for condition in ["user.id != 'x'", "!('a' in user.roles)", "!claims.admin", "path.user_id != claims.sub"] {
        assert_eq!(ask(&guard(PATTERN, condition), "/users/u-1/orders/12", None), None, "{condition}");
    }
    // What is absent does not matter where the rest decides.
    for (condition, expected) in [
        ("claims.missing == 'x' || claims.verified", Some(true)),
        ("claims.missing == 'x' && claims.admin", Some(false)),
    ] {
        assert_eq!(ask(&guard(PATTERN, condition), "/users/u-1/orders/12", Some(alice())), expected, "{condition}");
    }
    let mut nobody = alice();
    nobody.email = None;
    assert_eq!(ask(&guard(PATTERN, "user.email != 'x'"), "/users/u-1/orders/12", Some(nobody)), None);
}

#[test]
fn a_segment_is_read_as_the_application_reads_it() {
    let guard = guard("/users/{user_id}", "path.user_id == user.email");
    for (path, expected) in [
        ("/users/a@b.c", Some(true)),
        ("/users/a%40b.c", Some(true)),
        ("/users/a%40b.c?x=/users/y", Some(true)),
        ("/users/a%2540b.c", Some(false)),
        ("/users/A@b.c", Some(false)),
        ("/users/a%FF", None),
        ("/users/a@b.c%00", None),
        ("/users", None),
    ] {
        assert_eq!(ask(&guard, path, Some(alice())), expected, "{path}");
    }
}

#[test]
fn the_filter_refuses_with_one_text() {
    for (condition, reason) in [("claims.admin", "false"), ("claims.missing", "absent")] {
        let now = Now { monotonic: std::time::Duration::ZERO, unix_ms: 0 };
        let mut exchange = Exchange::new(now, [10, 0, 0, 1].into());
        exchange.principal = Some(Arc::new(alice()));
        let head = http::Request::get("/").body(()).unwrap().into_parts().0;
        let guard = guard("/x", condition);
        let future = std::pin::pin!(guard.on_request(&head, &mut exchange));
        let std::task::Poll::Ready(Err(refusal)) =
            future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
        else {
            panic!("it refuses at once")
        };
        assert_eq!(
            (refusal.code, &*refusal.detail),
            (Code::PermissionDenied, "The caller may not do this with this object.")
        );
        assert!(refusal.reason.contains(reason));
        assert_eq!(guard.explain(), [format!("guard {condition}")]);
    }
}

/// Conditions over what is there and what is not, of any shape.
fn conditions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "claims.verified",
        "claims.admin",
        "claims.missing",
        "path.user_id == claims.sub",
        "claims.sub != 'u-1'",
        "claims.missing != 'x'",
        "'a' in claims.groups",
        "client_ip in ['192.0.2.0/24']",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 32, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
        ]
    })
}

proptest! {
    /// To learn the missing claim never turns a decision around, and De Morgan's laws hold.
    #[test]
    fn what_is_decided_stays_decided(a in conditions(), b in conditions()) {
        let decide = |condition: &str, principal| ask(&guard(PATTERN, condition), "/users/u-1/orders/12", Some(principal));
        let known = |claim: Claim| {
            let mut principal = alice();
            let all = ["sub", "verified", "admin", "groups"].map(|name| (name.to_owned(), alice().claims.get(name).unwrap().clone()));
            principal.claims = all.into_iter().chain([("missing".to_owned(), claim)]).collect();
            principal
        };
        if let Some(decision) = decide(&a, alice()) {
            for claim in [Claim::Bool(true), Claim::Bool(false), Claim::Text("x".into()), Claim::List(Vec::new())] {
                prop_assert_eq!(decide(&a, known(claim)), Some(decision), "{}", &a);
            }
        }
        prop_assert_eq!(
            decide(&format!("!(({a}) && ({b}))"), alice()),
            decide(&format!("!({a}) || !({b})"), alice())
        );
    }

    #[test]
    fn a_mistake_stands_in_the_text(text in ".{0,60}", words in prop::collection::vec(prop::sample::select(vec![
        "path", ".", "claims", "a", "==", "!=", "in", "[", "]", ",", "'x'", "7", "!", "&&", "||", "(", ")", "true", "user",
        "roles", "client_ip", "'10.0.0.0/8'", "method", "header",
    ]), 0..12)) {
        for text in [text, words.join(" ")] {
            if let Err(mistake) = guard::parse(&text) {
                prop_assert!(mistake.at.start <= mistake.at.end && mistake.at.end <= text.len());
                prop_assert!(text.get(mistake.at.clone()).is_some() && !mistake.help.is_empty(), "{:?}", mistake);
            }
        }
    }
}

/// The guard and the application read the same, or the guard reads nothing.
#[test]
fn a_header_that_the_application_may_read_otherwise_is_absent() {
    let guard = guard("/a", "header.X-Tenant == 't1'");
    let holds = |fields: &[(&str, &str)]| {
        let now = Now { monotonic: std::time::Duration::ZERO, unix_ms: 0 };
        let exchange = Exchange::new(now, [10, 0, 0, 1].into());
        let mut request = http::Request::get("/a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        guard.holds(&request.body(()).unwrap().into_parts().0, &exchange)
    };
    let tenant = ("x-tenant", "t1");
    assert_eq!(holds(&[tenant, ("connection", "keep-alive"), ("x-tenants", "t2")]), Some(true));
    for other in [("x_tenant", "t2"), ("x.tenant", "t1"), ("connection", "close, X-Tenant"), ("x-tenant", "t2")] {
        assert_eq!(holds(&[tenant, other]), None, "{other:?}");
    }
}

#[test]
fn who_has_no_roles_is_not_without_this_one() {
    let nobody = Principal { roles: Vec::new(), permissions: Vec::new(), ..alice() };
    for list in ["user.roles", "user.permissions"] {
        for guarded in [format!("!('banned' in {list})"), format!("'a' in {list}")] {
            assert_eq!(ask(&guard("/a", &guarded), "/a", Some(nobody.clone())), None, "{guarded}");
        }
        assert_eq!(ask(&guard("/a", &format!("!('banned' in {list})")), "/a", Some(alice())), Some(true));
    }
}
