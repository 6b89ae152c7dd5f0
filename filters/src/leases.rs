//! Holds a route to the keys that a key service lends: where one that it needs is over, its requests are refused before any
//! credential is looked at, and are taken again as soon as the service has given the key again.

use std::sync::Arc;

use http::request;

use crate::contract::{Code, Exchange, Filter, Lease, Refusal, Stage};

/// The leases of one route.
pub struct Leases(Box<[Arc<dyn Lease>]>);

impl Leases {
    /// None: the route needs no key that could end.
    pub fn new(leases: Vec<Arc<dyn Lease>>) -> Option<Self> {
        let mut own: Vec<Arc<dyn Lease>> = Vec::with_capacity(leases.len());
        for lease in leases {
            if !own.iter().any(|known| Arc::ptr_eq(known, &lease)) {
                own.push(lease);
            }
        }
        (!own.is_empty()).then(|| Self(own.into()))
    }
}

impl Filter for Leases {
    fn stage(&self) -> Stage {
        Stage::Leases
    }

    fn explain(&self) -> Vec<String> {
        let names: Vec<&str> = self.0.iter().map(|lease| lease.name()).collect();
        vec![format!("needs {}: 503 while AWS KMS does not give it", names.join(", "))]
    }

    async fn on_request(&self, _head: &request::Parts, _exchange: &mut Exchange) -> Result<(), Refusal> {
        match self.0.iter().find(|lease| lease.is_over()) {
            None => Ok(()),
            Some(over) => {
                Err(Refusal::new(Code::Overloaded, "A key that this request needs is not there at the moment.")
                    .reason(format!("the key {} has ended, and AWS KMS has not given it again", over.name())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Ends(AtomicBool);

    impl Lease for Ends {
        fn is_over(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
        fn name(&self) -> &str {
            "kms:env:KEY"
        }
    }

    #[test]
    fn a_lease_is_held_once_and_none_is_no_filter() {
        assert!(Leases::new(Vec::new()).is_none());
        let lease: Arc<dyn Lease> = Arc::new(Ends::default());
        let leases = Leases::new(vec![Arc::clone(&lease), lease]).unwrap();
        assert_eq!(leases.0.len(), 1);
        assert!(leases.explain()[0].contains("kms:env:KEY"));
    }
}
