//! A guard's words.

use std::ops::Range;

use super::Mistake;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Symbol(&'static str),
}

/// Longer ones before those that they begin with.
const SYMBOLS: [&str; 11] = ["==", "!=", "&&", "||", "!", "(", ")", "[", "]", ",", "."];

/// Longer than any condition that a person can check.
const MAX_LENGTH: usize = 2048;

pub(super) fn read(text: &str) -> Result<Vec<(Token, Range<usize>)>, Mistake> {
    if text.len() > MAX_LENGTH {
        return mistake(0..0, format!("a guard has at most {MAX_LENGTH} characters"), "decide it in the application");
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, length) = match first {
            ' ' | '\t' | '\n' | '\r' => {
                at += 1;
                continue;
            }
            '"' | '\'' => quoted(rest, first, at)?,
            '0'..='9' | '-' => number(rest, at)?,
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
                (Token::Name(rest[..end].to_owned()), end)
            }
            _ => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => return unknown(first, at),
            },
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

pub(super) fn mistake<T>(at: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Result<T, Mistake> {
    Err(Mistake { at, message: message.into(), help: help.into() })
}

fn quoted(rest: &str, quote: char, at: usize) -> Result<(Token, usize), Mistake> {
    let Some(end) = rest[1..].find(quote) else {
        return mistake(at..at + rest.len(), "this text has no end", format!("close it with {quote}"));
    };
    Ok((Token::Text(rest[1..=end].to_owned()), end + 2))
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Mistake> {
    let digits =
        rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '_').map_or(rest.len(), |n| n + 1);
    let written = &rest[..digits];
    let canonical = written.parse::<i64>().ok().filter(|number| number.to_string() == written);
    match canonical {
        Some(number) => Ok((Token::Number(number), digits)),
        None => mistake(
            at..at + digits,
            format!("`{written}` is not a whole number of 64 bits"),
            "write digits without leading zeros, or a text in quotes",
        ),
    }
}

fn unknown<T>(c: char, at: usize) -> Result<T, Mistake> {
    let help = match c {
        '=' => "equality is `==`",
        '&' => "and is `&&`",
        '|' => "or is `||`",
        '<' | '>' => "values are compared by `==`, `!=` and `in`",
        _ => "the language has values, `==`, `!=`, `in`, `&&`, `||`, `!` and parentheses",
    };
    mistake(at..at + c.len_utf8(), format!("`{}` means nothing here", c.escape_debug()), help)
}
