//! Object guards: a condition on this request and this caller, as `path.user_id == claims.sub`.
//!
//! What is absent decides nothing: a comparison with it is neither true nor false, `!` of that is neither as well, and only what is
//! true passes. So no negation opens a door because a claim is missing.

use std::future::{Future, ready};

use gapura_config::{
    guard::{self, Condition, Set, Value},
    model,
};
use http::{HeaderName, request};

use crate::{
    contract::{Claim, Code, Exchange, Filter, Principal, Refusal, Stage},
    networks::Networks,
    reading,
};

/// The guard of one route, compiled.
pub struct Guard {
    written: String,
    test: Test,
}

/// As [`Condition`], with everything looked up that does not depend on a request.
enum Test {
    Any(Vec<Test>),
    All(Vec<Test>),
    Not(Box<Test>),
    Equal(Operand, Operand),
    In(Operand, Members),
    From(Networks),
    Holds(String),
    /// It names what cannot be there.
    Never,
}

enum Operand {
    Fixed(Claim),
    /// A segment of the path, by its number.
    Segment(usize),
    Claim(String),
    Header(HeaderName),
    Method,
    UserId,
    Email,
}

enum Members {
    Listed(Vec<Claim>),
    Claim(String),
    Roles,
    Permissions,
}

impl Guard {
    /// None where the route has none, or one that cannot be read: the configuration's rules have said so.
    pub fn new(route: &model::Route) -> Option<Self> {
        let written = route.guard.clone()?;
        let condition = guard::parse(&written).ok()?;
        let segments: Vec<(usize, &str)> = guard::named_segments(&route.path).collect();
        Some(Self { test: compile(&condition, &segments), written })
    }

    /// Whether the condition is true. None: something that it needs is absent.
    pub fn holds(&self, head: &request::Parts, exchange: &Exchange) -> Option<bool> {
        Asked { head, exchange }.test(&self.test)
    }
}

fn compile(condition: &Condition, segments: &[(usize, &str)]) -> Test {
    let operand = |value: &Value| operand(value, segments);
    let each = |all: &[Condition]| all.iter().map(|one| compile(one, segments)).collect();
    match condition {
        Condition::Any(all) => Test::Any(each(all)),
        Condition::All(all) => Test::All(each(all)),
        Condition::Not(one) => Test::Not(Box::new(compile(one, segments))),
        Condition::From(networks) => Test::From(Networks::new(networks)),
        Condition::Holds(claim) => Test::Holds(claim.clone()),
        Condition::Equal(one, other) => match (operand(one), operand(other)) {
            (Some(one), Some(other)) => Test::Equal(one, other),
            _ => Test::Never,
        },
        Condition::In(value, set) => {
            let members = match set {
                Set::Listed(items) => Members::Listed(items.iter().filter_map(fixed).collect()),
                Set::Claim(name) => Members::Claim(name.clone()),
                Set::Roles => Members::Roles,
                Set::Permissions => Members::Permissions,
            };
            operand(value).map_or(Test::Never, |operand| Test::In(operand, members))
        }
    }
}

fn operand(value: &Value, segments: &[(usize, &str)]) -> Option<Operand> {
    Some(match value {
        Value::Path(name) => Operand::Segment(segments.iter().find(|(_, known)| known == name)?.0),
        Value::Claim(name) => Operand::Claim(name.clone()),
        Value::Header(name) => Operand::Header(name.parse().ok()?),
        Value::Method => Operand::Method,
        Value::UserId => Operand::UserId,
        Value::Email => Operand::Email,
        // Compared as networks only.
        Value::ClientIp => return None,
        literal => Operand::Fixed(fixed(literal)?),
    })
}

fn fixed(value: &Value) -> Option<Claim> {
    match value {
        Value::Text(text) => Some(Claim::Text(text.clone())),
        // `7` and `"7"` are one user id, so numbers are their digits.
        Value::Number(number) => Some(Claim::Text(number.to_string())),
        Value::Bool(truth) => Some(Claim::Bool(*truth)),
        _ => None,
    }
}

/// One request before the guard.
struct Asked<'a> {
    head: &'a request::Parts,
    exchange: &'a Exchange,
}

impl Asked<'_> {
    fn test(&self, test: &Test) -> Option<bool> {
        match test {
            Test::Any(all) => any(all.iter().map(|one| self.test(one))),
            Test::All(all) => not(any(all.iter().map(|one| not(self.test(one))))),
            Test::Not(one) => not(self.test(one)),
            Test::Equal(one, other) => self.value(one, |one| self.value(other, |other| one.equals(&other))),
            Test::In(value, members) => self.value(value, |value| self.within(&value, members)),
            Test::From(networks) => Some(networks.contains(self.exchange.client_ip)),
            Test::Holds(name) => match self.claim(name)? {
                Claim::Bool(truth) => Some(*truth),
                _ => None,
            },
            Test::Never => None,
        }
    }

    /// Gives a value away for as long as it is looked at: texts of the request are not copied.
    fn value(&self, operand: &Operand, look: impl FnOnce(Seen<'_>) -> Option<bool>) -> Option<bool> {
        match operand {
            Operand::Fixed(claim) => look(Seen::of(claim)?),
            Operand::Claim(name) => look(Seen::of(self.claim(name)?)?),
            Operand::Segment(at) => look(Seen::Text(&reading::segment(self.exchange.target.path(), *at)?)),
            Operand::Header(name) => look(Seen::Text(reading::header(&self.head.headers, name)?)),
            Operand::Method => look(Seen::Text(self.head.method.as_str())),
            Operand::UserId => look(Seen::Text(self.principal()?.user_id.as_str())),
            Operand::Email => look(Seen::Text(self.principal()?.email.as_deref()?)),
        }
    }

    fn within(&self, value: &Seen<'_>, members: &Members) -> Option<bool> {
        let named = |names: &[String]| match value {
            Seen::Text(text) => Some(names.iter().any(|name| name == text)),
            Seen::Bool(_) => None,
        };
        match members {
            Members::Listed(items) => any(items.iter().map(|item| Seen::of(item).and_then(|item| value.equals(&item)))),
            // None at all may be a token that does not speak of them.
            Members::Roles => named(Some(&self.principal()?.roles).filter(|roles| !roles.is_empty())?),
            Members::Permissions => named(Some(&self.principal()?.permissions).filter(|names| !names.is_empty())?),
            Members::Claim(name) => match (self.claim(name)?, value) {
                (Claim::List(names), _) => named(names),
                // As `scope` has it (RFC 6749, section 3.3).
                (Claim::Text(names), Seen::Text(text)) => Some(names.split(' ').any(|name| name == *text)),
                _ => None,
            },
        }
    }

    fn claim(&self, name: &str) -> Option<&Claim> {
        self.principal()?.claims.get(name)
    }

    fn principal(&self) -> Option<&Principal> {
        self.exchange.principal.as_deref()
    }
}

/// Kleene's logic: none is what nobody knows.
fn any(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut sum = Some(false);
    for one in all {
        match one {
            Some(true) => return one,
            Some(false) => {}
            None => sum = None,
        }
    }
    sum
}

fn not(truth: Option<bool>) -> Option<bool> {
    truth.map(|truth| !truth)
}

enum Seen<'v> {
    Text(&'v str),
    Bool(bool),
}

impl<'v> Seen<'v> {
    /// None: a list is in no comparison.
    fn of(claim: &'v Claim) -> Option<Self> {
        match claim {
            Claim::Text(text) => Some(Self::Text(text)),
            Claim::Bool(truth) => Some(Self::Bool(*truth)),
            Claim::List(_) => None,
        }
    }

    /// None: values of different types are not to be compared.
    fn equals(&self, other: &Seen<'_>) -> Option<bool> {
        match (self, other) {
            (Self::Text(one), Seen::Text(other)) => Some(one == other),
            (Self::Bool(one), Seen::Bool(other)) => Some(one == other),
            _ => None,
        }
    }
}

impl Filter for Guard {
    fn stage(&self) -> Stage {
        Stage::Authorisation
    }

    fn explain(&self) -> Vec<String> {
        vec![format!("guard {}", self.written)]
    }

    fn on_request(
        &self,
        head: &request::Parts,
        exchange: &mut Exchange,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        let reason = match self.holds(head, exchange) {
            Some(true) => return ready(Ok(())),
            Some(false) => "the guard is false",
            None => "the guard cannot be decided: something that it asks for is absent",
        };
        let refusal = Refusal::new(Code::PermissionDenied, "The caller may not do this with this object.");
        ready(Err(refusal.reason(reason)))
    }
}

#[cfg(test)]
mod tests;
