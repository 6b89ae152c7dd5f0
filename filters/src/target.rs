//! The one canonical form of a request target.
//!
//! What is matched and authorised must be what is forwarded: a path that two parties read differently is how access rules
//! are walked around. So a path is brought to one form (RFC 3986, sections 5.2.4 and 6.2.2), and one that could still be
//! read in two ways is refused.

use std::borrow::Cow;

/// Why a target has no canonical form. Fit for the client: it repeats nothing of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambiguous(pub &'static str);

/// The canonical form of a path in origin form, without its query.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(Ambiguous("the path must start with `/`"));
    }
    let mut plain = true;
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'/' if previous == b'/' => return Err(Ambiguous("the path has an empty segment (`//`)")),
            b'\\' => return Err(Ambiguous("the path has a backslash")),
            b';' => return Err(Ambiguous("the path has a `;`")),
            b'#' => return Err(Ambiguous("the target has a fragment")),
            b'%' => plain = false,
            // Dots matter only at the start of a segment; whether it is a dot segment is seen below.
            b'.' if previous == b'/' => plain = false,
            // Nobody may send them bare (RFC 3986, section 2), and libraries differ in whether they take them.
            b'"' | b'<' | b'>' | b'`' => {
                return Err(Ambiguous("the path has a character that must be percent-encoded"));
            }
            0x21..=0x7e => {}
            _ => return Err(Ambiguous("the path has a character that must be percent-encoded")),
        }
        previous = byte;
    }
    if plain { Ok(Cow::Borrowed(path)) } else { rebuild(path) }
}

/// Whether a query may pass: visible ASCII, no fragment. It is forwarded as it came.
pub fn check_query(query: &str) -> Result<(), Ambiguous> {
    if query.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && !b"#\"<>".contains(&byte)) {
        Ok(())
    } else {
        Err(Ambiguous("the query has a character that must be percent-encoded"))
    }
}

fn rebuild(path: &str) -> Result<Cow<'_, str>, Ambiguous> {
    let mut segments: Vec<Cow<'_, str>> = Vec::new();
    let mut raw = path[1..].split('/').peekable();
    while let Some(segment) = raw.next() {
        let last = raw.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                // `/a/.` and `/a/b/..` name the folder: the slash stays.
                if last {
                    segments.push(Cow::Borrowed(""));
                }
            }
            _ => segments.push(decode_segment(segment)?),
        }
    }
    let mut canonical = String::with_capacity(path.len());
    for segment in &segments {
        canonical.push('/');
        canonical.push_str(segment);
    }
    if canonical.is_empty() {
        canonical.push('/');
    }
    Ok(if canonical == path { Cow::Borrowed(path) } else { Cow::Owned(canonical) })
}

/// Decodes what need not be encoded, once; refuses what means something else to whoever decodes it.
fn decode_segment(segment: &str) -> Result<Cow<'_, str>, Ambiguous> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut decoded = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.as_bytes().get(at + 1..at + 3).ok_or(Ambiguous("a percent-encoding is cut short"))?;
        let byte = hex(digits).ok_or(Ambiguous("a percent-encoding has a digit that is not hexadecimal"))?;
        match byte {
            b'/' => return Err(Ambiguous("the path has an encoded `/`")),
            b'\\' => return Err(Ambiguous("the path has an encoded backslash")),
            b';' => return Err(Ambiguous("the path has an encoded `;`")),
            0 => return Err(Ambiguous("the path has an encoded NUL")),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                for digit in digits {
                    decoded.push(char::from(digit.to_ascii_uppercase()));
                }
            }
        }
        rest = &rest[at + 3..];
        // For a reader who decodes once more.
        let digits = rest.as_bytes().get(..2).and_then(hex);
        if byte == b'%' && matches!(digits, Some(b'/' | b'\\' | b';' | 0)) {
            return Err(Ambiguous("the path has an encoding of an encoded `/`, `\\`, `;` or NUL"));
        }
    }
    decoded.push_str(rest);
    if is_dots(&decoded) || is_dots(&decoded.replace("%252e", ".").replace("%252E", ".").replace("%25", "%")) {
        return Err(Ambiguous("the path has an encoded dot segment"));
    }
    Ok(Cow::Owned(decoded))
}

/// A dot segment for a reader who decodes once more.
fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_form_for_what_means_the_same() {
        for (given, canonical) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/../../x", "/x"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/%61dmin", "/admin"),
            ("/%7Euser", "/~user"),
            ("/a%20b", "/a%20b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%2eb", "/a.b"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(canonical_path(given).as_deref(), Ok(canonical), "{given}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for given in [
            "",
            "a",
            "*",
            "//",
            "/a//b",
            "/a/..//b",
            "/a\\b",
            "/a%5cb",
            "/a%2fb",
            "/a%2Fb",
            "/a;b",
            "/a%3bb",
            "/a%00",
            "/%2e%2e/x",
            "/.%2e/x",
            "/%2e",
            "/a/%2E%2e",
            "/%252e%252e/x",
            "/..%252fx",
            "/%252e%252e%252Fx",
            "/a%255cb",
            "/a%253B",
            "/a%2500",
            "/.%252E",
            "/%",
            "/%4",
            "/%zz",
            "/a#b",
            "/a b",
            "/a\"b",
            "/<a>",
            "/`",
            "/é",
            "/\u{7f}",
            "/\n",
        ] {
            assert!(canonical_path(given).is_err(), "{given:?} has a canonical form: {:?}", canonical_path(given));
        }
    }

    proptest! {
        /// Matched, authorised and forwarded are one: a second pass changes nothing.
        #[test]
        fn canonical_is_a_fixed_point(path in "/[a-zA-Z0-9%./;~_é-]{0,40}") {
            if let Ok(once) = canonical_path(&path) {
                let twice = canonical_path(&once);
                prop_assert_eq!(twice.as_deref(), Ok(once.as_ref()));
                prop_assert!(!once.split('/').any(|s| s == "." || s == ".."));
            }
        }

        #[test]
        fn no_text_panics(path in "\\PC{0,60}") {
            let _ = canonical_path(&path);
            let _ = check_query(&path);
        }
    }
}
