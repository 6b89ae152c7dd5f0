//! What touches the world: stores.

pub mod stores;
