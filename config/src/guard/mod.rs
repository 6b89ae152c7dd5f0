//! The language of `guard`: a condition on a request and its caller, as `path.user_id == claims.sub`.
//!
//! ```text
//! condition = and { "||" and }          and  = unary { "&&" unary }
//! unary     = "!" unary | "(" condition ")" | value [ ( "==" | "!=" ) value | "in" set ]
//! value     = "text" | number | true | false | path.NAME | claims.NAME | header.NAME
//!           | method | client_ip | user.id | user.email
//! set       = "[" literal { "," literal } "]" | claims.NAME | user.roles | user.permissions
//! ```
//!
//! A claim's name is dotted, or a text for what no name can be: `claims."https://example.com/tenant"`. What can be seen to be
//! wrong without a request is wrong when the file is read; what is absent in a request makes nothing true.

mod parse;
mod tokens;

use std::{collections::BTreeSet, ops::Range};

use ipnet::IpNet;

pub use self::parse::parse;

/// What must be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// At least one; two or more of them.
    Any(Vec<Condition>),
    All(Vec<Condition>),
    Not(Box<Condition>),
    Equal(Value, Value),
    In(Value, Set),
    /// The client's address is in one of these.
    From(Vec<IpNet>),
    /// A claim that is `true`.
    Holds(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
    Bool(bool),
    /// The segment `{NAME}` of the route's path.
    Path(String),
    /// Named as those of `[jwt.NAME.claims]`.
    Claim(String),
    Header(String),
    Method,
    ClientIp,
    UserId,
    Email,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    Listed(Vec<Value>),
    Claim(String),
    Roles,
    Permissions,
}

/// What is wrong with a guard, and which bytes of it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub at: Range<usize>,
    pub message: String,
    pub help: String,
}

impl Condition {
    /// Every value in it, sets and their members included.
    fn each<'c>(&'c self, visit: &mut impl FnMut(Part<'c>)) {
        match self {
            Self::Any(all) | Self::All(all) => all.iter().for_each(|condition| condition.each(visit)),
            Self::Not(condition) => condition.each(visit),
            Self::Equal(one, other) => [one, other].into_iter().for_each(|value| visit(Part::Value(value))),
            Self::In(value, set) => {
                visit(Part::Value(value));
                visit(Part::Set(set));
            }
            Self::From(_) => visit(Part::Value(&Value::ClientIp)),
            Self::Holds(claim) => visit(Part::Claim(claim)),
        }
    }

    /// The claims that it reads.
    pub fn claims(&self) -> BTreeSet<&str> {
        let mut claims = BTreeSet::new();
        self.each(&mut |part| match part {
            Part::Value(Value::Claim(name)) | Part::Set(Set::Claim(name)) => drop(claims.insert(name.as_str())),
            Part::Claim(name) => drop(claims.insert(name)),
            _ => {}
        });
        claims
    }

    /// The segments of the route's path that it reads.
    pub fn segments(&self) -> BTreeSet<&str> {
        let mut segments = BTreeSet::new();
        self.each(&mut |part| {
            if let Part::Value(Value::Path(name)) = part {
                segments.insert(name.as_str());
            }
        });
        segments
    }

    /// It asks who calls.
    pub fn needs_caller(&self) -> bool {
        let mut needs = false;
        self.each(&mut |part| {
            needs |= match part {
                Part::Value(value) => matches!(value, Value::Claim(_) | Value::UserId | Value::Email),
                Part::Set(set) => !matches!(set, Set::Listed(_)),
                Part::Claim(_) => true,
            }
        });
        needs
    }
}

enum Part<'c> {
    Value(&'c Value),
    Set(&'c Set),
    Claim(&'c str),
}

/// The named segments of a path pattern: `user_id` of `/users/{user_id}/orders`, with their place among the segments.
pub fn named_segments(pattern: &str) -> impl Iterator<Item = (usize, &str)> {
    pattern
        .trim_start_matches('/')
        .split('/')
        .enumerate()
        .filter_map(|(at, segment)| Some((at, segment_name(segment)?)))
}

/// The name of a segment that has one.
pub fn segment_name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

pub(crate) fn is_segment_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
