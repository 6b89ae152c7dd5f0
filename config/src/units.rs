//! Values with a unit, as an operator writes them: `"250ms"`, `"1MiB"`, `"127.0.0.1:8000"`, `"14d"` or `"off"`.
//!
//! Each type parses from one string, says in its error what to write instead, and names its `format` in the JSON Schema,
//! which is what `shape` checks a file against.

use std::{
    borrow::Cow,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A length of time above zero. Written as digits and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes. Written as digits and one of `B`, `KiB`, `MiB`, `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A [`Period`], or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeriodOrOff {
    Off,
    For(Duration),
}

/// Where a server listens or an upstream is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `host:port`; the host may be a name, an IPv4 or a bracketed IPv6 address.
    Tcp { host: String, port: u16 },
    /// `unix:/path`
    Unix(PathBuf),
}

impl Period {
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl Size {
    pub const fn kib(n: u64) -> Self {
        Self(n * 1024)
    }
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl PeriodOrOff {
    pub const fn get(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::For(period) => Some(period),
        }
    }
}

/// Digits, then a unit: the one grammar of both periods and sizes.
fn quantity(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // More than fits is more than any limit.
    (digits > 0).then(|| (number.parse().unwrap_or(u64::MAX), unit.trim_start_matches(' ')))
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a duration; write a number and a unit: \"250ms\", \"30s\", \"5m\", \"1h\" or \"14d\""
            )
        };
        let (number, unit) = quantity(text).ok_or_else(wrong)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        match number.checked_mul(milliseconds) {
            Some(0) => Err(format!("`{text}` is no time at all; write a duration above zero: \"1s\"")),
            // A century: above it, sums with the present instant could overflow.
            Some(ms) if ms <= 3_155_760_000_000 => Ok(Self(Duration::from_millis(ms))),
            _ => Err(format!("`{text}` is longer than a century; write a shorter one: \"1h\"")),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a size; write a number and a unit: \"512B\", \"64KiB\", \"1MiB\" or \"1GiB\"");
        let (number, unit) = quantity(text).ok_or_else(wrong)?;
        let factor = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        match number.checked_mul(factor) {
            Some(bytes) if bytes <= 1 << 40 => Ok(Self(bytes)),
            _ => Err(format!("`{text}` is more than 1024 GiB; write a smaller one: \"1GiB\"")),
        }
    }
}

impl FromStr for PeriodOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => text.parse::<Period>().map(|period| Self::For(period.0)).map_err(|e| format!("{e}, or \"off\"")),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is not an address: {why}; write \"127.0.0.1:8000\", \"[::1]:8000\", \"name:8000\" or \"unix:/path\""
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(wrong("a socket path is absolute"));
            }
            return Ok(Self::Unix(path.into()));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(match without_scheme(scheme, rest) {
                Some(address) => {
                    format!("`{text}` is not an address: an address has no scheme and no path; write \"{address}\"")
                }
                None => wrong("an address has no scheme"),
            });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
        let port = port.parse().map_err(|_| wrong("the port is not a number from 0 to 65535"))?;
        let bare = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<Ipv6Addr>().map_err(|_| wrong("the brackets hold no IPv6 address"))?;
                inner
            }
            None if host.contains(':') => return Err(wrong("an IPv6 address stands in brackets")),
            None if host.is_empty() => return Err(wrong("the host is missing")),
            None if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) => {
                return Err(wrong("the host has a character that no name has"));
            }
            None if host.parse::<Ipv4Addr>().is_ok() || is_dns_name(host) => host,
            None if is_numeric(host) => {
                return Err(wrong("an IPv4 address has four numbers from 0 to 255, none with a leading zero"));
            }
            None => return Err(wrong("no host has such a name")),
        };
        Ok(Self::Tcp { host: bare.to_owned(), port })
    }
}

/// The address in a URL, where one can be told.
fn without_scheme(scheme: &str, rest: &str) -> Option<Address> {
    let authority = rest.split(['/', '?', '#']).next()?;
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    authority.parse().or_else(|_| format!("{authority}:{port}").parse()).ok()
}

/// RFC 1123, section 2.1; `_` is common inside clusters. Not a numeric address, which would pass for a name otherwise.
pub(crate) fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && !is_numeric(host) && host.split('.').all(label)
}

/// No domain at the top is a number: what ends in one is meant as an IPv4 address.
fn is_numeric(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if ms.is_multiple_of(factor) {
                return write!(f, "{}{unit}", ms / factor);
            }
        }
        write!(f, "{ms}ms")
    }
}

impl fmt::Display for PeriodOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::For(period) => Period(*period).fmt(f),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Deserialisation from the one string, and a schema that names the format.
macro_rules! written_as_string {
    ($($type:ty => $format:literal, $description:literal;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $format.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "description": $description })
            }
        }
    )*};
}
pub(crate) use written_as_string;

written_as_string! {
    Period => "duration", "a number and a unit: 250ms, 30s, 5m, 1h, 14d";
    Size => "size", "a number and a unit: 512B, 64KiB, 1MiB, 1GiB";
    PeriodOrOff => "duration-or-off", "a duration, or off";
    Address => "address", "host:port or unix:/path";
}
