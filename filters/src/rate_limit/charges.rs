//! What an exchange was charged, so that it can be given back when a later rule refuses; and what the fields report.

use super::{memory::Fingerprint, settle::Reservation};

/// Recorded in the exchange. Nothing of it is allocated on routes with up to four rules by address, header or route.
#[derive(Debug, Default)]
pub struct Charges {
    /// Of `client_limits`, kept where `principal_limits` may refuse later.
    pub(super) receipts: Receipts,
    /// Of rules whose cost the response tells.
    pub(super) reservations: Vec<Reservation>,
    /// The tightest rule so far.
    pub(super) tightest: Option<Report>,
    /// The refusal carries the fields itself.
    pub(super) refused: bool,
}

/// The state of one rule for this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// Its place among the rules of the route.
    pub(super) rule: usize,
    pub(super) remaining: u64,
    /// Whole seconds, rounded up: to the next growth of `remaining`, on a refusal to the instant at which the request would pass.
    pub(super) seconds: u64,
}

/// Proof of one charge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    pub(super) rule: usize,
    pub(super) at: u64,
    pub(super) place: Place,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Memory(Fingerprint),
    /// In the shared store; and in this instance's memory, where it is counted beside.
    Shared {
        beside: Option<(Fingerprint, u64)>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Receipts {
    first: [Option<Receipt>; 4],
    more: Vec<Receipt>,
}

impl Report {
    /// Fewest remaining; of equals the one that lasts longer.
    pub(super) fn tighter(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if (other.remaining, u64::MAX - other.seconds) <= (self.remaining, u64::MAX - self.seconds) => {
                other
            }
            _ => self,
        }
    }

    /// Of two that refuse, the one that refuses longer: before it ends the request cannot pass.
    pub(super) fn longer(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.seconds >= self.seconds => other,
            _ => self,
        }
    }
}

impl Receipt {
    /// The counter in memory that holds the charge, and the instant under which it does.
    pub(super) fn in_memory(&self) -> Option<(Fingerprint, u64)> {
        match self.place {
            Place::Memory(counter) => Some((counter, self.at)),
            Place::Shared { beside } => beside,
        }
    }
}

impl Receipts {
    pub(super) fn push(&mut self, receipt: Receipt) {
        match self.first.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(receipt),
            None => self.more.push(receipt),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Receipt> {
        self.first.iter().flatten().chain(&self.more)
    }
}
