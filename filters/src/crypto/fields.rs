//! Texts joined so that no two lists give the same bytes: each behind its length. What strong envelopes bind keys and
//! messages to.

use zeroize::Zeroizing;

/// For each field four bytes of its length, big-endian, then its UTF-8 bytes.
pub fn fields(list: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(list.iter().map(|field| 4 + field.len()).sum());
    for field in list {
        // A field comes from a head or a short configuration text; what could overflow here never got so far.
        let len = u32::try_from(field.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(field.as_bytes());
    }
    out
}

/// The bytes of base64url without padding, in its one spelling.
pub fn from_base64url(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new)
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
    fn a_field_stands_behind_its_length() {
        assert_eq!(fields(&["ab", "", "é"]), b"\0\0\0\x02ab\0\0\0\0\0\0\0\x02\xC3\xA9");
        assert_ne!(fields(&["a", "bc"]), fields(&["ab", "c"]));
        assert_ne!(fields(&[]), fields(&[""]));
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
