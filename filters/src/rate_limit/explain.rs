//! What an operator may rely on, in the words of `gapura explain`.

use std::time::Duration;

use http::Method;

use super::{
    algorithm::{Meter, Quota, spelled},
    memory,
    rule::Rule,
    settle::Told,
};

impl Rule {
    /// The rule with its guarantee, then what it comes to, then the keys with limits of their own.
    pub(super) fn explain(&self) -> Vec<String> {
        let Quota { limit, window, .. } = &self.terms.quota;
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let rule = format!(
            "{}: {limit}{}{} per {} by {}, {}{}: {}{}{}",
            self.name,
            if methods.is_empty() { "" } else { " " },
            methods.join(", "),
            spelled(*window),
            self.by,
            self.terms.quota.method(),
            self.costs(),
            self.terms.quota.guarantee(),
            self.penalty(),
            if self.observes { "; observed only, nothing is refused" } else { "" },
        );
        let sums = format!(
            "  worst case {} in any {}, sustained at least {}; {} bytes per key in memory",
            self.terms.quota.worst(),
            spelled(*window),
            self.terms.quota.sustained(),
            // One layout for all keys: that of the largest limit.
            self.overrides.quotas().chain([&self.terms.quota]).map(memory::bytes_per_key).max().unwrap_or_default(),
        );
        [rule, sums].into_iter().chain(self.overrides.explain()).collect()
    }

    fn penalty(&self) -> String {
        match self.terms.quota.penalty {
            Duration::ZERO => String::new(),
            penalty => format!("; after a refusal, none for {}", spelled(penalty)),
        }
    }

    fn costs(&self) -> String {
        match &self.told {
            Some(Told { header, default, .. }) => {
                format!(
                    ", a request costs what `{header}` of its response says, {default} without it; {} are reserved till then",
                    self.cost
                )
            }
            None if self.cost == 1 => String::new(),
            None => format!(", a request costs {}", self.cost),
        }
    }
}

impl Quota {
    /// The most that is ever charged in one window.
    fn worst(&self) -> u64 {
        match Meter::new(self) {
            Meter::Slices(_) | Meter::Log(_) => self.limit,
            // Both ends of the window count: what came at once, and all that was replenished.
            Meter::Gcra => self.burst.saturating_add(self.limit),
        }
    }

    /// What passes in a window however long it lasts, of requests that cost one.
    fn sustained(&self) -> u64 {
        match Meter::new(self) {
            // A slice is free again when it has left whole: one slice later than the window.
            Meter::Slices(slices) => {
                let slices = u128::from(slices.division().0);
                u64::try_from(u128::from(self.limit) * slices / (slices + 1)).unwrap_or(self.limit)
            }
            Meter::Log(_) | Meter::Gcra => self.limit,
        }
    }
}
