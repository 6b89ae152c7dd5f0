//! What the passphrases of `cryptojs` are derived from: one master key, or a ring of them, so that it can be changed while
//! clients go on.
//!
//! An envelope names none of them; its `keyHash` is of one. All that open are tried, and none of the comparisons tells by its
//! time how much was alike. A ring's versions are few.

use std::sync::Arc;

use gapura_config::{
    fault::{Fault, Place},
    model,
    secret::Secret,
};

use crate::{
    contract::{KeyReader, Lease, advice},
    keyring::{Key, Keyring, Keyrings},
};

pub(in crate::encryption) enum Masters {
    /// With what it is held on, where a key service lent it.
    One(Secret, Box<[Arc<dyn Lease>]>),
    Ring(Arc<Keyring>),
}

impl Masters {
    /// The faults are those of this entry; of a ring that could not be loaded they are noted elsewhere.
    pub(in crate::encryption) fn new(
        config: &model::Encryption,
        rings: &Keyrings,
        place: &Place,
        keys: &KeyReader,
    ) -> Result<Self, Vec<Fault>> {
        match (&config.master_key, &config.master_keys) {
            (Some(reference), _) => {
                keys.read(reference).map(|key| Self::One(key, keys.leases().into())).map_err(|why| {
                    let help = advice(reference, &why, "set it before the gateway starts or reloads");
                    vec![Fault::at(place.key("master_key"), why).help(help)]
                })
            }
            (None, Some(name)) => match rings.get(name) {
                Some(Some(ring)) => Ok(Self::Ring(Arc::clone(ring))),
                Some(None) => Err(Vec::new()),
                None => Err(vec![Fault::at(place.key("master_keys"), format!("there is no `[keyrings.{name}]`"))]),
            },
            (None, None) => {
                let why = "`cryptojs` derives its keys from a master key, and there is none";
                let fault = Fault::at(place.key("master_key"), why);
                Err(vec![fault.help("add `master_key = \"env:NAME\"`, or `master_keys = \"RING\"`")])
            }
        }
    }

    /// What messages may have been sealed under that come now.
    pub(super) fn opening(&self, now_ms: u64) -> impl Iterator<Item = &Secret> {
        let (one, ring) = match self {
            Self::One(..) => (self.active(now_ms), None),
            Self::Ring(ring) => (None, Some(ring)),
        };
        let of_ring = ring.into_iter().flat_map(move |ring| ring.all_opening(now_ms));
        one.into_iter().chain(of_ring.filter_map(|(_, key)| match key {
            Key::Secret(secret) => Some(secret),
            _ => None,
        }))
    }

    /// What is given out, and seals where a request does not tell its key. The rules of the configuration see to it that there
    /// is one; None: it is on loan, and over.
    pub(super) fn active(&self, now_ms: u64) -> Option<&Secret> {
        match self {
            Self::One(secret, leases) => Some(secret).filter(|_| !leases.iter().any(|lease| lease.is_over())),
            Self::Ring(ring) => match ring.active()?.opening(now_ms)? {
                Key::Secret(secret) => Some(secret),
                _ => None,
            },
        }
    }

    /// For `gapura explain`.
    pub(in crate::encryption) fn ring(&self) -> Option<&Keyring> {
        match self {
            Self::One(..) => None,
            Self::Ring(ring) => Some(ring),
        }
    }
}
