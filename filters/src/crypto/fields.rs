//! Texts joined so that no two lists of texts are joined to the same bytes.

/// Each field with 4 bytes of its length before it, big-endian. `("a", "bc")` and `("ab", "c")` differ.
pub fn fields<'f>(parts: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    let mut joined = Vec::with_capacity(256);
    for part in parts {
        // Nothing that is joined here comes near 4 GiB: heads and bodies are bounded far below.
        joined.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

/// A whole number in the one spelling that decimals have here: digits, no sign, no leading zero.
pub fn decimal(text: &str) -> Option<u64> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_length_and_its_bytes() {
        assert_eq!(fields([&b"ab"[..], b"", b"c"]), b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c");
        assert_ne!(fields([&b"a"[..], b"bc"]), fields([&b"ab"[..], b"c"]));
        assert_ne!(fields([&b""[..]]), fields([]));
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (text, number) in [("0", 0), ("7", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(decimal(text), Some(number));
        }
        for text in ["", "00", "07", "+7", "-7", " 7", "7 ", "1e3", "18446744073709551616", "٣"] {
            assert_eq!(decimal(text), None, "{text:?}");
        }
    }
}
