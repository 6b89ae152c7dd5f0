//! Who is refused first when the gateway is full.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// What can wait: up to 80 % of the bound.
    Low,
    /// Up to 90 % of the bound.
    #[default]
    Normal,
    /// What must not fail: all of the bound.
    High,
}

impl Priority {
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// As it is written in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// How much of `limits.max_in_flight` may be in use for such a request still to come in. Never nothing.
    pub const fn share(self, max: u32) -> u32 {
        let tenths = match self {
            Self::Low => 8,
            Self::Normal => 9,
            Self::High => 10,
        };
        let share = (max as u64 * tenths / 10) as u32;
        if share == 0 { 1 } else { share }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_has_some_of_every_bound() {
        assert_eq!(Priority::ALL.map(|priority| priority.share(1000)), [800, 900, 1000]);
        assert_eq!(Priority::ALL.map(|priority| priority.share(1)), [1, 1, 1]);
        assert_eq!(Priority::ALL.map(|priority| priority.share(1_000_000)), [800_000, 900_000, 1_000_000]);
    }
}
