//! Is it JSON?

/// Well-formed UTF-8 JSON (RFC 8259), nothing but white space around it.
pub fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok())
}
