//! For `fuzz/` only: the readers of outside bytes that this crate keeps to itself. Behind the feature `fuzzing`, which
//! nothing that is shipped switches on.

pub use crate::{
    http1::fuzzing::Chunks,
    proxy::{
        fuzzing::{asked_for, client_ip, decode},
        listen::fuzzing::{Framed, certificate, head},
    },
    upstream::fuzzing::{Body, response_head},
};
