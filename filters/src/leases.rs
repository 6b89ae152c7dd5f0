//! Holds a route to the keys that a key service lends: where one that it needs is over, its requests are refused before any
//! credential is looked at, and are taken again as soon as the service has given the key again. A body may come long after its head,
//! and so [`crate::chain`] asks again before a body is looked at and before a request goes on.

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

    /// Whether each is there now.
    pub fn check(&self) -> Result<(), Refusal> {
        match self.0.iter().find(|lease| lease.is_over()) {
            None => Ok(()),
            Some(over) => Err(missing().reason(over_text(over.name()))),
        }
    }
}

/// What a caller learns of a key that has ended.
pub fn missing() -> Refusal {
    Refusal::new(Code::Overloaded, "A key that this request needs is not there at the moment.")
}

/// What an operator learns.
pub fn over_text(name: &str) -> String {
    format!("the key {name} has ended, and AWS KMS has not given it again")
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
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::{chain::Chain, contract::Services, metrics::Metrics};

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

    #[test]
    fn a_key_that_ends_while_a_body_comes_is_not_used_for_it() {
        let lease = Arc::new(Ends::default());
        let leases = Leases::new(vec![Arc::clone(&lease) as Arc<dyn Lease>]).unwrap();
        let services = Services::in_memory(1000, 1000, Metrics::new().unwrap().into());
        let chain = Chain::new(vec![leases.into()], &services);
        assert!(!chain.needs_body(), "no body is held back for it");
        assert!(chain.check_leases().is_ok());
        lease.0.store(true, Ordering::Relaxed);
        let refusal = chain.check_leases().unwrap_err();
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.reason.contains("kms:env:KEY"), "{}", refusal.reason);
        lease.0.store(false, Ordering::Relaxed);
        assert!(chain.check_leases().is_ok(), "it was given again");
    }
}
