//! Stores that several instances share, one folder for each outside library.

pub mod redis;
pub(crate) mod sql;

pub use self::redis::RedisStore;
