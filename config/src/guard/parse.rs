//! From words to a condition, by recursive descent.

use std::{net::IpAddr, ops::Range};

use ipnet::IpNet;

use super::{
    Condition, Mistake, Set, Value,
    tokens::{self, Token, mistake},
};
use crate::{model::is_token, nearest::nearest};

/// Nested deeper than anybody writes; each level takes some of the stack.
const MAX_DEPTH: usize = 32;

/// Reads a guard.
pub fn parse(text: &str) -> Result<Condition, Mistake> {
    let tokens = tokens::read(text)?;
    if tokens.is_empty() {
        return mistake(0..text.len(), "this is empty", "write a condition as `path.user_id == claims.sub`");
    }
    let mut parser = Parser { tokens, next: 0, end: text.len(), depth: 0 };
    let condition = parser.any()?;
    match parser.peek() {
        None => Ok(condition),
        Some(Token::Symbol("==" | "!=")) => mistake(parser.place(), "comparisons do not chain", "join two by `&&`"),
        Some(_) => mistake(parser.place(), "the condition was complete before this", "join conditions by `&&` or `||`"),
    }
}

struct Parser {
    tokens: Vec<(Token, Range<usize>)>,
    next: usize,
    /// Of the text.
    end: usize,
    depth: usize,
}

/// A value, and where it stands.
type Placed = (Value, Range<usize>);

impl Parser {
    fn any(&mut self) -> Result<Condition, Mistake> {
        let mut all = vec![self.all()?];
        while self.takes("||") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Any(all) })
    }

    fn all(&mut self) -> Result<Condition, Mistake> {
        let mut all = vec![self.unary()?];
        while self.takes("&&") {
            all.push(self.unary()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn unary(&mut self) -> Result<Condition, Mistake> {
        let place = self.place();
        let negated = self.takes("!");
        if !negated && !self.takes("(") {
            return self.comparison();
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return mistake(place, format!("this is nested more than {MAX_DEPTH} deep"), "write it flat");
        }
        let condition = if negated { Condition::Not(Box::new(self.unary()?)) } else { self.any()? };
        if !negated && !self.takes(")") {
            return mistake(self.place(), "a `)` is missing here", "close what was opened");
        }
        self.depth -= 1;
        Ok(condition)
    }

    fn comparison(&mut self) -> Result<Condition, Mistake> {
        let left = self.value()?;
        match self.peek() {
            Some(Token::Symbol(symbol @ ("==" | "!="))) => {
                let unequal = *symbol == "!=";
                self.next += 1;
                let equal = equal(left, self.value()?)?;
                Ok(if unequal { Condition::Not(Box::new(equal)) } else { equal })
            }
            Some(Token::Name(name)) if name == "in" => {
                self.next += 1;
                self.membership(left)
            }
            _ => match left {
                (Value::Claim(claim), _) => Ok(Condition::Holds(claim)),
                (Value::Bool(_), at) => mistake(at, "this is always the same", "compare a claim with it"),
                (_, at) => mistake(at, "this is a value, not a condition", "compare it: `==`, `!=` or `in`"),
            },
        }
    }

    fn membership(&mut self, (value, at): Placed) -> Result<Condition, Mistake> {
        if self.takes("[") {
            let mut listed = Vec::new();
            loop {
                let (item, at) = self.value()?;
                if !is_literal(&item) {
                    return mistake(at, "only texts and numbers stand in a list", "compare with this by `==`");
                }
                listed.push((item, at));
                if self.takes("]") {
                    break;
                }
                if !self.takes(",") {
                    return mistake(self.place(), "a `,` or `]` is missing here", "write `[\"a\", \"b\"]`");
                }
            }
            if value == Value::ClientIp {
                return listed.into_iter().map(network).collect::<Result<_, _>>().map(Condition::From);
            }
            for item in &listed {
                equal((value.clone(), at.clone()), item.clone())?;
            }
            return Ok(Condition::In(value, Set::Listed(listed.into_iter().map(|(item, _)| item).collect())));
        }
        if value == Value::ClientIp {
            return mistake(self.place(), "networks stand in a list", "write `client_ip in [\"10.0.0.0/8\"]`");
        }
        let place = self.place();
        let set = match (self.name().as_deref(), self.dotted().as_slice()) {
            (Some("user"), [list]) if list == "roles" => Set::Roles,
            (Some("user"), [list]) if list == "permissions" => Set::Permissions,
            (Some("claims"), [first, rest @ ..]) => Set::Claim(rest.iter().fold(first.clone(), |a, b| a + "." + b)),
            _ => {
                let help = "write a list `[\"a\", \"b\"]`, `claims.NAME`, `user.roles` or `user.permissions`";
                return mistake(place, "`in` asks a list", help);
            }
        };
        Ok(Condition::In(value, set))
    }

    fn value(&mut self) -> Result<Placed, Mistake> {
        let start = self.place();
        let Some((token, _)) = self.tokens.get(self.next).cloned() else {
            return mistake(start, "the guard ends where a value should stand", VALUES);
        };
        let value = match token {
            Token::Text(text) => self.literal(Value::Text(text)),
            Token::Number(number) => self.literal(Value::Number(number)),
            Token::Name(name) if name == "true" || name == "false" => self.literal(Value::Bool(name == "true")),
            Token::Name(root) if root != "in" => {
                self.next += 1;
                let parts = self.dotted();
                let at = start.start..self.tokens[self.next - 1].1.end;
                return named(&root, &parts, at.clone()).map(|value| (value, at));
            }
            _ => return mistake(start, "a value should stand here", VALUES),
        };
        Ok((value, start))
    }

    fn literal(&mut self, value: Value) -> Value {
        self.next += 1;
        value
    }

    /// `.a."b c".d`
    fn dotted(&mut self) -> Vec<String> {
        let mut parts = Vec::new();
        while matches!(self.peek(), Some(Token::Symbol("."))) {
            let Some((Token::Name(part) | Token::Text(part), _)) = self.tokens.get(self.next + 1) else { break };
            parts.push(part.clone());
            self.next += 2;
        }
        parts
    }

    fn name(&mut self) -> Option<String> {
        let Some(Token::Name(name)) = self.peek() else { return None };
        let name = name.clone();
        self.next += 1;
        Some(name)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Symbol(known)) if *known == symbol);
        self.next += usize::from(there);
        there
    }

    /// Of the next token, or the end.
    fn place(&self) -> Range<usize> {
        self.tokens.get(self.next).map_or(self.end..self.end, |(_, at)| at.clone())
    }
}

const VALUES: &str =
    "write a text in quotes, a number, `path.NAME`, `claims.NAME`, `header.NAME`, `method`, `client_ip` or `user.id`";

fn named(root: &str, parts: &[String], at: Range<usize>) -> Result<Value, Mistake> {
    match (root, parts) {
        ("path", [name]) => Ok(Value::Path(name.clone())),
        ("claims", [_, ..]) if parts.iter().all(|part| !part.is_empty()) => Ok(Value::Claim(parts.join("."))),
        ("header", [name]) if is_token(name) => Ok(Value::Header(name.to_ascii_lowercase())),
        ("method", []) => Ok(Value::Method),
        ("client_ip", []) => Ok(Value::ClientIp),
        ("user", [part]) if part == "id" => Ok(Value::UserId),
        ("user", [part]) if part == "email" => Ok(Value::Email),
        ("user", [part]) if part == "roles" || part == "permissions" => {
            mistake(at, format!("`user.{part}` is a list"), format!("write `\"NAME\" in user.{part}`"))
        }
        ("path" | "claims" | "header" | "user", _) => mistake(
            at,
            format!("`{root}` needs a name"),
            format!("write `{root}.NAME`, one of the caller's: `user.id`"),
        ),
        _ => {
            let known = ["path", "claims", "header", "method", "client_ip", "user"];
            let help = nearest(root, known).map_or(VALUES.to_owned(), |meant| format!("did you mean `{meant}`?"));
            mistake(at, format!("there is no value `{root}`"), help)
        }
    }
}

fn is_literal(value: &Value) -> bool {
    matches!(value, Value::Text(_) | Value::Number(_) | Value::Bool(_))
}

/// A comparison that can be true and can be false.
fn equal((left, left_at): Placed, (right, right_at): Placed) -> Result<Condition, Mistake> {
    if is_literal(&left) && is_literal(&right) || left == right {
        return mistake(left_at.start..right_at.end, "this is always the same", "compare something of the request");
    }
    let (value, (literal, at)) = if is_literal(&left) { (right, (left, left_at)) } else { (left, (right, right_at)) };
    match (&value, &literal) {
        (Value::ClientIp, _) if is_literal(&literal) => network((literal, at)).map(|one| Condition::From(vec![one])),
        (Value::ClientIp, _) | (_, Value::ClientIp) => mistake(
            at,
            "`client_ip` is compared with addresses that stand here",
            "write `client_ip in [\"10.0.0.0/8\"]`",
        ),
        (Value::Claim(_), _) | (_, Value::Claim(_)) => Ok(Condition::Equal(value, literal)),
        (_, Value::Bool(_)) => mistake(at, "only a claim can be true or false", "write a text in quotes"),
        (Value::Method, Value::Text(method)) if method.bytes().any(|byte| byte.is_ascii_lowercase()) => {
            mistake(at, "methods are written in upper case", format!("write \"{}\"", method.to_ascii_uppercase()))
        }
        _ => Ok(Condition::Equal(value, literal)),
    }
}

fn network((value, at): Placed) -> Result<IpNet, Mistake> {
    let parsed = match &value {
        Value::Text(text) => text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)),
        _ => None,
    };
    parsed.map_or_else(|| mistake(at, "this is no address and no network", "write \"10.0.0.0/8\" or \"10.0.0.1\""), Ok)
}
