//! API keys as a request presents them: looked up in memory, and, where nobody there knows them, asked for.

use std::sync::Arc;

use http::HeaderMap;

use super::{
    ApiKeysMethod, Asked, Authentication, Denial, Denied, Proof,
    key_format::{self, Form},
    lockout::Claimed,
};
use crate::contract::Principal;

/// For one request: each of its credentials may be one that a backend has to be asked about.
const QUESTIONS: usize = 4;

impl Authentication {
    /// The caller. A key that only a backend can know is asked about, and what it said remembered; then everything is looked at again.
    pub(super) async fn settle(&self, headers: &HeaderMap, mut asked: Asked) -> Result<Arc<Principal>, Denied> {
        for _ in 0..QUESTIONS {
            match self.examine(headers, asked) {
                Err(Denied { unasked: Some(question), .. }) => {
                    let answered = question.ask().await;
                    asked.2 |= !answered;
                }
                settled => return settled,
            }
        }
        let (now_ms, from, _) = asked;
        self.examine(headers, (now_ms, from, true))
    }

    /// Several tables may share a header and scheme; a key belongs to the one table that holds its hash. Those in memory come first.
    pub(super) fn prove_key<'m>(
        &self,
        methods: impl Iterator<Item = (usize, &'m ApiKeysMethod)> + Clone,
        key: &[u8],
        asked: Asked,
    ) -> Result<Proof, Denial> {
        let form = key_format::form(key);
        for (rank, method) in methods.clone() {
            if let Some(found) = method.find(key)? {
                return found.proof(rank, method, asked);
            }
        }
        for (rank, method) in methods.clone() {
            if let Some(found) = method.find_foreign(key, asked)? {
                return found.proof(rank, method, asked);
            }
        }
        let claimed = || match (form, methods.clone().next()) {
            (Form::Ours(id), Some((_, method))) => Some(Claimed::new(method.name(), id)),
            _ => None,
        };
        // Another issuer's keys may begin as ours do, so the form alone refuses nothing.
        let reason = match form {
            Form::Damaged => "the API key was never issued: its checksum is wrong",
            _ => "the API key is not known",
        };
        Err(Denial::from(reason).at(claimed))
    }
}
