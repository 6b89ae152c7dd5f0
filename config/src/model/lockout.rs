//! `[lockout]`.

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::Period;

/// What happens to addresses that present credentials which nobody issued.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lockout {
    /// `observe` counts and logs, and locks nobody out; `off` does neither.
    pub mode: LockoutMode,
    /// So many failures of one address (IPv6: of one /64) within `window` lock it out.
    #[schemars(range(min = 2, max = 1000))]
    pub failures: u32,
    /// From 1s to 1h.
    pub window: Period,
    /// How long the first lock-out lasts; each further one lasts twice as long.
    pub duration: Period,
    /// The longest lock-out. After as long without one the next is a first one again.
    pub max_duration: Period,
    /// Networks that are never locked out, nor counted.
    #[schemars(with = "Vec<String>", extend("items" = { "type": "string", "format": "cidr" }))]
    pub exempt: Vec<IpNet>,
}

impl Default for Lockout {
    fn default() -> Self {
        let loopback = [IpNet::from(ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8)), LOOPBACK_V6];
        Self {
            mode: LockoutMode::default(),
            failures: 10,
            window: Period::secs(60),
            duration: Period::secs(30),
            max_duration: Period(Duration::from_secs(3600)),
            exempt: loopback.into(),
        }
    }
}

const LOOPBACK_V6: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128));

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockoutMode {
    #[default]
    Enforce,
    /// Counts and logs what would be locked out.
    Observe,
    Off,
}
