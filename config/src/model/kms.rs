//! `[kms]`: how AWS KMS is asked for the keys that `kms:` references name.

use std::{collections::BTreeMap, net::IpAddr, str::FromStr};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::Period;

/// AWS KMS. Credentials come from where every AWS tool finds them: the environment, a profile, the role of the workload.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kms {
    /// The region of the keys. Absent: as the environment or the profile says.
    pub region: Option<String>,
    /// Where KMS is reached: `https://host`, or `http://` on this machine. Absent: AWS, or what `AWS_ENDPOINT_URL` says.
    pub endpoint: Option<String>,
    /// What ciphertexts were encrypted with beside the key; KMS opens none without it.
    #[serde(default)]
    pub encryption_context: BTreeMap<String, String>,
    /// The longest that a key is used after KMS last gave it: 1 s to 5 min. It is asked for again in the second half of it.
    #[serde(default = "cache")]
    pub cache: Period,
    /// The longest that one question may take, with its repetition: 100 ms to 30 s, and at most a quarter of `cache`.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// Questions at once about messages, and as many about signatures; the next is refused with 503.
    #[serde(default = "max_calls")]
    #[schemars(range(min = 1, max = 1024))]
    pub max_calls: usize,
}

impl Default for Kms {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            encryption_context: BTreeMap::new(),
            cache: cache(),
            timeout: timeout(),
            max_calls: max_calls(),
        }
    }
}

fn cache() -> Period {
    Period::secs(5 * 60)
}
fn timeout() -> Period {
    Period::secs(3)
}
fn max_calls() -> usize {
    64
}

impl Kms {
    /// Of an endpoint: what goes there goes over TLS, or does not leave this machine.
    pub fn is_private(endpoint: &str) -> bool {
        endpoint.parse::<Endpoint>().is_ok_and(|endpoint| endpoint.tls || endpoint.local)
    }
}

struct Endpoint {
    tls: bool,
    local: bool,
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (scheme, rest) = text.split_once("://").ok_or(())?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(())?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse().is_ok_and(|n: u16| n > 0);
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return Err(());
        }
        if host.is_empty() || authority.contains('@') || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(());
        }
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match scheme {
            "https" => Ok(Self { tls: true, local }),
            "http" => Ok(Self { tls: false, local }),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kms;

    #[test]
    fn a_key_never_travels_in_the_clear() {
        for good in
            ["https://kms.eu-west-1.amazonaws.com", "http://127.0.0.1:4566", "http://localhost:1/", "http://[::1]:1"]
        {
            assert!(Kms::is_private(good), "{good}");
        }
        for bad in [
            "http://kms.example",
            "http://127.0.0.1.example",
            "http://127.0.0.1@kms.example",
            "kms",
            "",
            "http://",
            "ftp://127.0.0.1",
            "https:// a",
            "https://kms.example:99999",
            "https://kms.example:",
            "https://kms.example:0",
            "https://kms.example:+1",
            "https://[::1]1",
        ] {
            assert!(!Kms::is_private(bad), "{bad}");
        }
    }
}
