//! Black box: the real binary behind real sockets, one file per promise to the user.
//!
//! Nothing in here knows how the gateway works inside. A test waits on conditions, never on time, and every port is free.
//! What a test needs beside cargo (FastAPI, Express, crypto-js, curl, nghttp) comes from `scripts/install.sh test`; a part
//! that is missing fails its test and says so.

// A test binary exports nothing; `pub` in its modules says what the tests may use.
#![allow(unreachable_pub)]

mod support;

mod access;
mod admin;
mod answers;
mod applications;
mod assertions;
mod bound_tokens;
mod cli;
mod client_certificates;
mod connections;
mod delivered_keys;
mod envelope_commands;
mod envelopes;
mod faults;
mod foreign_keys;
mod forwarding;
mod harness;
mod held_keys;
mod hostile;
mod hostile_h2;
mod identity;
mod introspection;
mod jose;
mod jose_tokens;
mod key_delivery;
mod key_limits;
mod kms;
mod kms_keys;
mod limits;
mod listeners;
mod load;
mod lockouts;
mod macs;
mod master_keys;
mod members;
mod message_replays;
mod moving_on;
mod named_files;
mod one_refusal;
mod operation_tokens;
mod partner_commands;
mod pool;
mod problems;
mod python_clients;
mod reload;
mod resets;
mod restarts;
mod revocations;
mod revoked_certificates;
mod sealed_answers;
mod sealed_downloads;
mod sealed_endings;
mod sealed_streams;
mod shared_downgrades;
mod shared_revocations;
mod shared_state;
mod shared_windows;
mod shutdown;
mod silence;
mod slow_readers;
mod sockets;
mod streaming;
mod strong_envelopes;
mod tampering;
mod tunnels;
mod upgrades;
mod upstreams;
mod usage;
