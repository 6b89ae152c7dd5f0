//! What the tables say about each other: references, combinations, and what is legal but seldom meant.

use crate::{
    fault::{Fault, Place},
    model::Config,
    source::Source,
};

pub(crate) fn check(_: &Config, _: &Source, _: &[Place]) -> Vec<Fault> {
    Vec::new()
}
