//! The formats of strings: what each accepts, what it says of anything else, and its pattern for editors.

use crate::{
    guard::{is_segment_name, segment_name},
    model::{DatabaseRef, FindBy, IssuedFor, LimitKey, TokenSource, UsedFor, is_token},
    secret::SecretRef,
    units::{Address, Period, PeriodOrOff, Size},
};

/// What is wrong with a text. A secret format's message never repeats the text.
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl From<String> for Complaint {
    /// The messages of the unit types end with what to write: `…; write "30s"`.
    fn from(message: String) -> Self {
        match message.split_once("; write ") {
            Some((what, instead)) => Self { message: what.into(), help: Some(format!("write {instead}")) },
            None => Self { message, help: None },
        }
    }
}

fn complain(message: impl Into<String>, help: impl Into<String>) -> Result<(), Complaint> {
    Err(Complaint { message: message.into(), help: Some(help.into()) })
}

/// One string format of the model.
struct Format {
    name: &'static str,
    /// For editors. Coarser than the check where a regular expression cannot say it.
    pattern: Option<&'static str>,
    /// A value that passes: shown as an example, and put in the place of a faulty one.
    example: &'static str,
    check: fn(&str) -> Result<(), Complaint>,
}

#[rustfmt::skip]
const FORMATS: &[Format] = &[
    Format { name: "duration", pattern: Some("^[0-9]+ *(ms|s|m|h|d)$"), example: "30s", check: parses::<Period> },
    Format { name: "duration-or-off", pattern: Some("^(off|[0-9]+ *(ms|s|m|h|d))$"), example: "5m", check: parses::<PeriodOrOff> },
    Format { name: "size", pattern: Some("^[0-9]+ *(B|KiB|MiB|GiB)$"), example: "1MiB", check: parses::<Size> },
    Format { name: "address", pattern: Some(r"^(unix:/.*|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$"), example: "127.0.0.1:8000", check: parses::<Address> },
    Format { name: "secret", pattern: Some("^((kms:)?(env:[A-Za-z0-9_]+|file:.+)|kms:key:[A-Za-z0-9:/_-]+)$"), example: "env:NAME", check: parses::<SecretRef> },
    Format { name: "rate-limit-key", pattern: Some("^(client_ip|user|api_key|route|global|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"), example: "client_ip", check: parses::<LimitKey> },
    Format { name: "token-source", pattern: Some("^(header|websocket_protocol|cookie:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"), example: "header", check: parses::<TokenSource> },
    Format { name: "database", pattern: Some("^(sqlite:[^?]+|env:[A-Za-z0-9_]+|file:.+)$"), example: "sqlite:keys.db", check: parses::<DatabaseRef> },
    Format { name: "find-by", pattern: Some("^(hash|prefix:[0-9]{1,3}|before:[!-~]{1,8})$"), example: "hash", check: parses::<FindBy> },
    Format { name: "sql", pattern: None, example: "SELECT id, user_id FROM api_keys WHERE hash = $1", check: sql },
    Format { name: "introspection-url", pattern: Some("^https?://[^/@]+/.*$"), example: "https://id.example.com/introspect", check: introspection_url },
    Format { name: "cidr", pattern: Some("^[0-9A-Fa-f:.]+/[0-9]{1,3}$"), example: "10.0.0.0/8", check: cidr },
    Format { name: "header-name", pattern: Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), example: "X-Api-Key", check: header_name },
    Format { name: "method", pattern: Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), example: "GET", check: method },
    Format { name: "jwks", pattern: Some("^(file:.+|https://[^/]+/.*)$"), example: "file:/etc/gapura/jwks.json", check: jwks },
    Format { name: "hex-sha256", pattern: Some("^[0-9a-f]{64}$"), example: "0000000000000000000000000000000000000000000000000000000000000000", check: hex_sha256 },
    Format { name: "spki-sha256", pattern: Some("^[0-9a-f]{64}$"), example: "0000000000000000000000000000000000000000000000000000000000000000", check: spki_sha256 },
    Format { name: "issued-for", pattern: Some(r"^(path:[A-Za-z_][A-Za-z0-9_]*|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|body:/.*)$"), example: "path:id", check: parses::<IssuedFor> },
    Format { name: "used-for", pattern: Some(r"^(path:[A-Za-z_][A-Za-z0-9_]*|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$"), example: "path:id", check: parses::<UsedFor> },
    Format { name: "path-pattern", pattern: Some(r"^/([^*?#;\\ ]|\*)*$"), example: "/orders/**", check: path_pattern },
    // A TOML date, not a string: `shape` checks it, and an editor knows the format.
    Format { name: "date-time", pattern: None, example: "2027-01-01T00:00:00Z", check: |_| Ok(()) },
    Format { name: "date", pattern: None, example: "2027-06-30", check: |_| Ok(()) },
];

/// Names that become metric labels and stand in references: `[upstreams.NAME]`, `name = …` of a route.
pub(crate) const NAME_PATTERN: &str = "^[A-Za-z0-9_.-]{1,64}$";

pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

fn find(format: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|known| known.name == format)
}

pub(crate) fn pattern(format: &str) -> Option<&'static str> {
    find(format)?.pattern
}

pub(crate) fn example(format: &str) -> Option<&'static str> {
    find(format).map(|known| known.example)
}

/// A value of this format must not be shown unless it passes.
pub(crate) fn is_secret(format: Option<&str>) -> bool {
    // A key pasted where its hash belongs is as secret as a literal secret; so are keys where their place belongs.
    matches!(format, Some("secret" | "hex-sha256" | "jwks" | "database" | "introspection-url" | "sql"))
}

pub(crate) fn check(format: &str, text: &str) -> Result<(), Complaint> {
    find(format).map_or(Ok(()), |known| (known.check)(text))
}

fn parses<T: std::str::FromStr<Err = String>>(text: &str) -> Result<(), Complaint> {
    text.parse::<T>().map(drop).map_err(Complaint::from)
}

fn cidr(text: &str) -> Result<(), Complaint> {
    if text.parse::<ipnet::IpNet>().is_ok() {
        return Ok(());
    }
    let message = format!("`{text}` is not a network");
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => complain(message, format!("for this one address write \"{}\"", ipnet::IpNet::from(address))),
        Err(_) => complain(message, "write an address and a prefix length: \"10.0.0.0/8\" or \"fd00::/8\""),
    }
}

fn header_name(text: &str) -> Result<(), Complaint> {
    if is_token(text) {
        return Ok(());
    }
    complain(format!("`{text}` is not a header name"), "write letters, digits and `-`, without a colon: \"X-Api-Key\"")
}

fn method(text: &str) -> Result<(), Complaint> {
    if ["CONNECT", "TRACE"].contains(&text) {
        return complain(
            format!("a request with `{text}` never reaches a route: it is always refused"),
            "leave it out",
        );
    }
    match is_token(text) {
        true => Ok(()),
        false => complain(format!("`{text}` is not an HTTP method"), "write one method per item: [\"GET\", \"POST\"]"),
    }
}

fn jwks(text: &str) -> Result<(), Complaint> {
    const HELP: &str = "write \"file:/path/to/jwks.json\" or \"https://host/path\"";
    if text.strip_prefix("file:").is_some_and(|path| !path.is_empty()) {
        return Ok(());
    }
    if text.starts_with("http://") {
        return complain("keys fetched in the clear are anyone's to replace on the way", HELP);
    }
    // The text is not repeated: a key set pasted here may hold private keys.
    let Some((host, path)) = text.strip_prefix("https://").and_then(|rest| rest.split_once('/')) else {
        return complain("this is not the place of a key set", HELP);
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&b);
    if host.contains('@') {
        return complain("a key set's address carries no user and no password", HELP);
    }
    let host_ok = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    if host_ok && path.bytes().all(plain) {
        return Ok(());
    }
    complain("this is not an https address", HELP)
}

/// The only value that may have several lines, and names of columns like those of secret keys. So a text whose closing quotes are not where
/// they should be is told by what it swallowed: lines of this file.
fn sql(text: &str) -> Result<(), Complaint> {
    const HELP: &str = "write one SELECT; are its closing quotes where they should be?";
    const MAX_BYTES: usize = 16 * 1024;
    if text.len() > MAX_BYTES {
        return complain("this is longer than any query", HELP);
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return complain("a control character is in this query", HELP);
    }
    let of_this_file = |line: &str| {
        let key = |c: char| c.is_ascii_lowercase() || c == '_';
        let value = line.trim_start_matches(key).trim_start().strip_prefix('=').map(str::trim_start);
        line.starts_with('[') || line.starts_with(key) && value.is_some_and(|value| value.starts_with(['"', '[', '{']))
    };
    if text.lines().any(|line| of_this_file(line.trim_start())) {
        return complain("this query holds another key", HELP);
    }
    Ok(())
}

/// A key travels there: in the clear only within this host.
fn introspection_url(text: &str) -> Result<(), Complaint> {
    const HELP: &str = "write \"https://host/path\", or \"http://127.0.0.1:8000/path\" on this host";
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return complain("this is not an http address", HELP),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The text is not repeated: it may hold a password.
    if authority.contains('@') {
        return complain("an address carries no user and no password", "write `client_id` and `client_secret`");
    }
    let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let host = host.map_or(authority, |(host, _)| host);
    let fit = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
    if !fit || !path.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&b)) {
        return complain("this is not an http address", HELP);
    }
    let number = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let loopback = host == "localhost" || number.is_ok_and(|address| address.is_loopback());
    if !secure && !loopback {
        return complain("a key would travel in the clear to another host", HELP);
    }
    Ok(())
}

fn hex_sha256(text: &str) -> Result<(), Complaint> {
    let hex = |b: u8| b.is_ascii_hexdigit();
    if text.len() == 64 && text.bytes().all(|b| hex(b) && !b.is_ascii_uppercase()) {
        return Ok(());
    }
    match text.bytes().all(hex) {
        true if text.len() == 64 => {
            complain("a hash is written in lower case", "write it as `gapura keys hash` prints it")
        }
        true => complain(format!("a hash has 64 hex digits, this has {}", text.len()), "`gapura keys hash` prints it"),
        false => complain(
            "this is not a hash; an API key itself never stands here",
            "`gapura keys hash --salt REF` reads the key and prints its hash",
        ),
    }
}

fn spki_sha256(text: &str) -> Result<(), Complaint> {
    const HELP: &str =
        "`openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum` prints it";
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
        return Ok(());
    }
    complain("this is no SHA-256 in 64 lower-case hex digits", HELP)
}

/// A pattern is compared with the canonical form of a target, so it has to be in that form itself: one that is not
/// would never match, and a route with its limits and its authentication would silently be absent.
fn path_pattern(text: &str) -> Result<(), Complaint> {
    if !text.starts_with('/') {
        return complain(format!("`{text}` does not start with `/`"), format!("write \"/{text}\""));
    }
    if text.len() > 1024 {
        return complain("a path pattern has at most 1024 characters", "match the rest with `/**`");
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return complain(format!("`{c}` is not part of a path"), "routes match the path alone; leave the query out");
    }
    if let Some(c) = text.chars().find(|c| matches!(c, ';' | '\\')) {
        return complain(format!("a target with `{c}` is always refused as ambiguous"), "leave it out");
    }
    let plain: String = text.split('/').filter(|segment| !segment.starts_with('{')).collect();
    if let Some(c) = plain.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._~!$&'()*+,=:@/%".contains(*c))) {
        let encoded: String = c.to_string().bytes().map(|b| format!("%{b:02X}")).collect();
        return complain(
            format!("`{c}` never stands in a target as it is"),
            format!("write it as clients send it: `{encoded}`"),
        );
    }
    encoded_octets(text)?;
    let segments: Vec<&str> = text[1..].split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match *segment {
            "" if !last => return complain("`//` never stands in a canonical path", "write one `/`"),
            "." | ".." => {
                return complain("`.` and `..` are gone before routes are matched", "write the path they lead to");
            }
            "**" if !last => {
                return complain("`**` stands only at the end", "write `*` for one segment, `/**` at the end");
            }
            "*" | "**" => {}
            _ if segment.starts_with('{') => match segment_name(segment) {
                Some(name) if !is_segment_name(name) => {
                    return complain(
                        format!("`{segment}` has no name"),
                        "write letters, digits and `_`: \"/users/{user_id}\"",
                    );
                }
                Some(name) if segments[..i].contains(segment) => {
                    return complain(format!("`{{{name}}}` occurs twice"), "give each segment a name of its own");
                }
                Some(_) => {}
                None => {
                    let message = format!("`{segment}` mixes a name with other characters");
                    return complain(message, "a named segment is a whole one: \"/users/{user_id}\"");
                }
            },
            _ if segment.contains('*') => {
                return complain(
                    format!("`{segment}` mixes `*` with other characters"),
                    "`*` is a whole segment: \"/files/*\"; or `/**` for any depth",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// RFC 3986, section 6.2.2: in the canonical form, what need not be encoded is not, and hex digits are upper case.
fn encoded_octets(text: &str) -> Result<(), Complaint> {
    for (at, _) in text.match_indices('%') {
        let Some(octet) = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return complain("`%` starts an encoded octet of two hex digits", "write a literal `%` as `%25`");
        };
        let written = &text[at..at + 3];
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            let plain = char::from(octet);
            return complain(format!("`{written}` is decoded before routes are matched"), format!("write `{plain}`"));
        }
        if matches!(octet, b'/' | b'\\' | b';') || octet.is_ascii_control() {
            return complain(format!("a target with `{written}` is always refused as ambiguous"), "leave it out");
        }
        if written.bytes().any(|b| b.is_ascii_lowercase()) {
            let upper = written.to_uppercase();
            return complain(
                format!("`{written}` is written `{upper}` in a canonical path"),
                format!("write `{upper}`"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn every_example_passes_its_own_check() {
        for format in FORMATS {
            assert!((format.check)(format.example).is_ok(), "{}", format.name);
        }
    }

    #[test]
    fn every_format_of_the_model_is_known_here() {
        schema::each_property(schema::root(), &mut |_, name, property| {
            for schema in [property, &property["items"]] {
                if let Some(format) = schema::format(schema) {
                    assert!(find(format).is_some(), "`{name}` has the unknown format {format}");
                }
            }
        });
    }
}
