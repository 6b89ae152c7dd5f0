//! Tokens that were verified before. A client sends the same token for minutes; what an RSA or EC signature proves once it
//! proves until the token ends.
//!
//! Only good tokens get in, so nobody fills this who has not been let in. It holds digests: a dump of the memory gives nobody
//! a token to use.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::authentication::tenure::TokenTenure;

/// SHA-256 of a whole token, signature included.
type Digest = [u8; 32];

/// Half a KiB each, more with long lists of roles: 32 MiB at most in the ordinary case.
const MAX_TOKENS: usize = 65_536;
const SHARDS: usize = 16;

pub(super) struct Verified([Mutex<HashMap<Digest, Entry>>; SHARDS]);

struct Entry {
    caller: Arc<TokenTenure>,
    /// The keys that it was verified with; see [`Keys::generation`](super::keys::Keys::generation).
    generation: u64,
}

impl Verified {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// The caller of a token that was verified with these keys and holds now. The two instants are all of a token that
    /// changes with time.
    pub(super) fn recall(&self, token: &[u8], generation: u64, now_ms: u64) -> Option<Arc<TokenTenure>> {
        let digest = digest(token);
        let shard = self.shard(&digest).lock();
        let entry = shard.get(&digest)?;
        let holds = entry.generation == generation && entry.caller.window.contains(now_ms);
        holds.then(|| Arc::clone(&entry.caller))
    }

    pub(super) fn keep(&self, token: &[u8], generation: u64, caller: Arc<TokenTenure>) {
        let digest = digest(token);
        let mut shard = self.shard(&digest).lock();
        // Any one makes room: to forget costs one verification.
        if shard.len() >= MAX_TOKENS / SHARDS
            && !shard.contains_key(&digest)
            && let Some(one) = shard.keys().next().copied()
        {
            shard.remove(&one);
        }
        shard.insert(digest, Entry { caller, generation });
    }

    fn shard(&self, digest: &Digest) -> &Mutex<HashMap<Digest, Entry>> {
        &self.0[usize::from(digest[0]) % SHARDS]
    }
}

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::{super::claims::Window, *};
    use crate::contract::{Principal, UserId};

    fn caller(from_ms: i64, until_ms: i64) -> Arc<TokenTenure> {
        let principal = Arc::new(Principal {
            method: "jwt.users".into(),
            user_id: UserId::string("u1"),
            email: None,
            roles: Vec::new(),
            permissions: Vec::new(),
            api_key: None,
            token_id: None,
            expires: None,
            limits: Default::default(),
            claims: Default::default(),
        });
        let window = Window { from_ms, until_ms };
        Arc::new(TokenTenure { principal, window, named: None, revocations: Arc::default() })
    }

    #[test]
    fn it_is_bounded_and_keeps_what_came_last() {
        let (verified, caller) = (Verified::new(), caller(0, 10));
        for n in 0..3 * MAX_TOKENS {
            verified.keep(&n.to_le_bytes(), 0, Arc::clone(&caller));
            assert!(verified.recall(&n.to_le_bytes(), 0, 5).is_some(), "{n}");
        }
        let held: usize = verified.0.iter().map(|shard| shard.lock().len()).sum();
        assert!((MAX_TOKENS / 2..=MAX_TOKENS).contains(&held), "{held}");
    }

    #[test]
    fn instants_and_keys_count() {
        let verified = Verified::new();
        verified.keep(b"t", 7, caller(10, 20));
        for (generation, now, found) in [(7, 10, true), (7, 19, true), (7, 9, false), (7, 20, false), (8, 15, false)] {
            assert_eq!(verified.recall(b"t", generation, now).is_some(), found, "{generation} {now}");
        }
        assert!(verified.recall(b"T", 7, 15).is_none());
        verified.keep(b"t", 8, caller(10, 20));
        assert!(verified.recall(b"t", 8, 15).is_some() && verified.recall(b"t", 7, 15).is_none());
    }
}
