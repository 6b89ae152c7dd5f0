//! Which method a token is for, and whether it holds.

use gapura_config::model::TokenSource;
use zeroize::Zeroizing;

use super::{
    Authentication, Denial, Proven, Reason,
    jwt::{self, JwtMethod, Token},
    proof_of,
};

/// What an encrypted token held, and the rank of the method whose keys opened it.
type Inner = (Zeroizing<Vec<u8>>, usize);

impl Authentication {
    /// The caller of a token, and the rank of the method that it is for.
    pub(super) fn verify_token(&self, source: &TokenSource, text: &[u8], now_ms: u64) -> Result<Proven, Denial> {
        let mut all = self.jwt_methods(source);
        let only = all.next().filter(|_| all.next().is_none());
        if let Some((rank, method)) = only
            && let Some(known) = method.recall(text, now_ms)
        {
            return Ok(proof_of(rank, known));
        }
        let inner = self.decrypt(source, text, now_ms)?;
        let (token, opened) = match &inner {
            Some((inner, opened)) => (Token::parse(inner)?.within(text), Some(*opened)),
            None => (Token::parse(text)?, None),
        };
        let (rank, method) = match only {
            Some(only) => only,
            None => self.choose(source, &token)?,
        };
        method.check_form(opened.is_some()).map_err(|why| Denial::Invalid(why).by(method.name()))?;
        // What other keys opened, its own must open as well: a method has its own terms of what it opens.
        if opened.is_some_and(|opened| opened != rank) {
            let own = method.decryption().map(|decryption| decryption.open(text, now_ms)).transpose();
            own.map_err(|why| Denial::from(why).by(method.name()))?;
        }
        // Of several methods only the chosen one's memory counts: the choice is this route's own.
        if only.is_none()
            && let Some(known) = method.recall(text, now_ms)
        {
            return Ok(proof_of(rank, known));
        }
        let proven = method.verify(&token, now_ms);
        let caller = proven.map_err(|denial| denial.by(method.name()).at(|| method.claimed(&token)))?;
        Ok(proof_of(rank, caller))
    }

    /// What an encrypted token holds, and the rank of the method whose keys opened it. None: it is not encrypted.
    fn decrypt(&self, source: &TokenSource, text: &[u8], now_ms: u64) -> Result<Option<Inner>, Reason> {
        if text.iter().filter(|byte| **byte == b'.').count() != 4 {
            return Ok(None);
        }
        let mut first = None;
        for (rank, method) in self.jwt_methods(source) {
            match method.decryption().map(|decryption| decryption.open(text, now_ms)) {
                Some(Ok(inner)) => return Ok(Some((inner, rank))),
                Some(Err(why)) => drop(first.get_or_insert(why)),
                None => {}
            }
        }
        // Where no method opens any, it is a token with too many parts.
        first.map_or(Ok(None), Err)
    }

    /// Among the methods that read tokens from there the exact `iss` chooses, before anything is verified; a method without
    /// issuer takes what no other claims. Where two agree in that, `alg` chooses. The choice is final: a token that fails its method is bad.
    fn choose(&self, source: &TokenSource, token: &Token<'_>) -> Result<(usize, &JwtMethod), Reason> {
        let claims = token.claims()?;
        let issuer = jwt::issuer(&claims)?;
        let claimed = issuer.is_some() && self.jwt_methods(source).any(|(_, method)| method.issuer() == issuer);
        let wanted = if claimed { issuer } else { None };
        let of_issuer = || self.jwt_methods(source).filter(|(_, method)| method.issuer() == wanted);
        let chosen = of_issuer().find(|(_, method)| method.accepts(token.algorithm())).or_else(|| of_issuer().next());
        chosen.ok_or_else(|| "the token is from an issuer that this route does not accept".into())
    }
}
