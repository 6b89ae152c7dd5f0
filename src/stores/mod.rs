//! Stores that several instances share, one folder for each outside library; and what one instance keeps in a file.

pub mod redis;
pub(crate) mod snapshot;
pub(crate) mod sql;

pub use self::redis::RedisStore;
