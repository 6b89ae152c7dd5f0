//! API keys as a request presents them: looked up in memory, and, where nobody there knows them, asked for.

use super::{
    ApiKeysMethod, Asked, Authentication, Denial, Examined, Proven,
    api_keys::Record,
    key_format::{self, Form},
    lockout::Claimed,
};

/// For one request: each of its credentials may be one that a backend has to be asked about.
const QUESTIONS: usize = 4;

impl Authentication {
    /// The caller. A key that only a backend can know is asked about, and what it said remembered; then everything is looked at again.
    pub(super) async fn settle(&self, mut asked: Asked<'_>) -> Result<Examined, Option<Denial>> {
        for _ in 0..QUESTIONS {
            match self.examine(asked) {
                Err(Some(Denial::Unasked(question))) => {
                    let answered = question.ask().await;
                    asked.unanswered |= !answered;
                }
                settled => return settled,
            }
        }
        asked.unanswered = true;
        self.examine(asked)
    }

    /// Several tables may share a header and scheme; a key belongs to the one table that holds its hash. Those in memory come first.
    pub(super) fn prove_key<'m>(
        &self,
        methods: impl Iterator<Item = (usize, &'m ApiKeysMethod)> + Clone,
        key: &[u8],
        asked: Asked<'_>,
    ) -> Result<Proven, Denial> {
        let form = key_format::form(key);
        for (rank, method) in methods.clone() {
            if let Some(found) = method.find(key)? {
                return Record::proof(found, rank, method, &asked);
            }
        }
        for (rank, method) in methods.clone() {
            if let Some(found) = method.find_foreign(key, &asked)? {
                return Record::proof(found, rank, method, &asked);
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
