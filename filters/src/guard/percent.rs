//! A segment of a path as the application behind reads it.

use std::borrow::Cow;

/// Decoded once, as every server does: `a%40b` and `a@b` are one object. None: no text, or one with control characters, of which
/// nobody knows what an application makes.
pub(super) fn decoded(segment: &str) -> Option<Cow<'_, str>> {
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
