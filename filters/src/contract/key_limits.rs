//! Limits that an API key has in place of those of rate limits, by the names of these.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

/// Most keys have none, so to carry none costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLimits(Option<Arc<BTreeMap<String, u64>>>);

/// As `limits` in the configuration.
const MOST: u64 = 1_000_000_000;

impl KeyLimits {
    pub fn get(&self, rule: &str) -> Option<u64> {
        self.0.as_ref()?.get(rule).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().flat_map(|limits| limits.iter().map(|(rule, limit)| (rule.as_str(), *limit)))
    }
}

impl FromIterator<(String, u64)> for KeyLimits {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(limits: I) -> Self {
        let limits: BTreeMap<String, u64> = limits.into_iter().collect();
        Self((!limits.is_empty()).then(|| limits.into()))
    }
}

/// `api=5000,batch=10`, as a database keeps them. Names of rules have neither of the two signs.
impl fmt::Display for KeyLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (rule, limit)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{rule}={limit}")?;
        }
        Ok(())
    }
}

impl FromStr for KeyLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no limit of a key; write NAME=5000, with a number from 1 to {MOST}");
        let one = |item: &str| {
            let (rule, limit) = item.split_once('=')?;
            let limit = limit.parse().ok().filter(|limit| (1..=MOST).contains(limit))?;
            (!rule.is_empty()).then(|| (rule.to_owned(), limit))
        };
        let items: Vec<&str> = text.split(',').filter(|item| !item.is_empty()).collect();
        let limits: Option<Vec<(String, u64)>> = items.iter().map(|item| one(item)).collect();
        let limits = limits.ok_or_else(wrong)?;
        let count = limits.len();
        let limits: Self = limits.into_iter().collect();
        if limits.iter().count() == count { Ok(limits) } else { Err(format!("{text:?} names a rate limit twice")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["", "api=5000", "api=5000,batch.v2=1"] {
            let limits: KeyLimits = text.parse().unwrap();
            assert_eq!(limits.to_string(), text);
        }
        let limits: KeyLimits = "api=5000,batch=1".parse().unwrap();
        assert_eq!((limits.get("api"), limits.get("batch"), limits.get("ap")), (Some(5000), Some(1), None));
        for wrong in ["api", "api=", "=5", "api=0", "api=-1", "api=1000000001", "api=5;b=6", "api=1,api=2"] {
            assert!(wrong.parse::<KeyLimits>().is_err(), "{wrong}");
        }
    }
}
