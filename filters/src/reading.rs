//! A part of a request as the application behind reads it, where that is certain.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header::CONNECTION};

/// A segment of a canonical path, by its number from 0.
pub fn segment(path: &str, at: usize) -> Option<Cow<'_, str>> {
    decoded(path.split('/').nth(at + 1)?)
}

/// What the application will read under this name.
pub fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    // Of two, which one the application reads is anyone's guess.
    let value = values.next().filter(|_| values.next().is_none())?;
    // To CGI, and what followed it, `X_Tenant` and `X-Tenant` are one.
    let folded = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    let alike = |other: &HeaderName| other.as_str().bytes().map(folded).eq(name.as_str().bytes().map(folded));
    if headers.keys().any(|other| other != name && alike(other)) {
        return None;
    }
    // RFC 9110, section 7.6.1: what `Connection` names goes no further than here.
    let named = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if named.into_iter().any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes())) {
        return None;
    }
    str::from_utf8(value.as_bytes()).ok()
}

/// Decoded once, as every server does: `a%40b` and `a@b` are one object. None: no text, or one with control characters, of which
/// nobody knows what an application makes.
fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                digit(*high)? << 4 | digit(*low)?
            }
            (b'%', _) => return None,
            _ => *first,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control)).map(Cow::Owned)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_and_no_more() {
        for (written, read) in [
            ("a@b", Some("a@b")),
            ("a%40b", Some("a@b")),
            ("%2541", Some("%41")),
            ("Zo%C3%AB", Some("Zoë")),
            ("%C3", None),
            ("a%0Ab", None),
            ("a%00", None),
            ("a%4", None),
            ("a%zz", None),
            ("%", None),
        ] {
            assert_eq!(decoded(written).as_deref(), read, "{written}");
        }
    }
}
