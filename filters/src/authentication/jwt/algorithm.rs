//! What each algorithm is: its name on the wire, the key it takes, and its name in `jsonwebtoken`.

use gapura_config::model::JwtAlgorithm;
use jsonwebtoken::Algorithm;

/// The kind of key an algorithm takes. A key of one kind never meets an algorithm of another: that is the whole defence
/// against confusion (RFC 8725, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// A shared secret; the length of the hash in bytes.
    Secret(usize),
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// The one table. A match, so that a new algorithm does not compile without its row.
fn row(algorithm: JwtAlgorithm) -> (&'static str, KeyKind, Algorithm) {
    match algorithm {
        JwtAlgorithm::HS256 => ("HS256", KeyKind::Secret(32), Algorithm::HS256),
        JwtAlgorithm::HS384 => ("HS384", KeyKind::Secret(48), Algorithm::HS384),
        JwtAlgorithm::HS512 => ("HS512", KeyKind::Secret(64), Algorithm::HS512),
        JwtAlgorithm::RS256 => ("RS256", KeyKind::Rsa, Algorithm::RS256),
        JwtAlgorithm::RS384 => ("RS384", KeyKind::Rsa, Algorithm::RS384),
        JwtAlgorithm::RS512 => ("RS512", KeyKind::Rsa, Algorithm::RS512),
        JwtAlgorithm::PS256 => ("PS256", KeyKind::Rsa, Algorithm::PS256),
        JwtAlgorithm::PS384 => ("PS384", KeyKind::Rsa, Algorithm::PS384),
        JwtAlgorithm::PS512 => ("PS512", KeyKind::Rsa, Algorithm::PS512),
        JwtAlgorithm::ES256 => ("ES256", KeyKind::P256, Algorithm::ES256),
        JwtAlgorithm::ES384 => ("ES384", KeyKind::P384, Algorithm::ES384),
        JwtAlgorithm::EdDSA => ("EdDSA", KeyKind::Ed25519, Algorithm::EdDSA),
    }
}

const ALL: [JwtAlgorithm; 12] = [
    JwtAlgorithm::HS256,
    JwtAlgorithm::HS384,
    JwtAlgorithm::HS512,
    JwtAlgorithm::RS256,
    JwtAlgorithm::RS384,
    JwtAlgorithm::RS512,
    JwtAlgorithm::PS256,
    JwtAlgorithm::PS384,
    JwtAlgorithm::PS512,
    JwtAlgorithm::ES256,
    JwtAlgorithm::ES384,
    JwtAlgorithm::EdDSA,
];

/// Exactly as registered: `none`, `None` and `hs256` are no algorithms. RFC 9864 gave EdDSA with the one curve that is taken here a
/// name of its own, which newer clients write.
pub(super) fn named(name: &str) -> Option<JwtAlgorithm> {
    if name == "Ed25519" {
        return Some(JwtAlgorithm::EdDSA);
    }
    ALL.into_iter().find(|algorithm| row(*algorithm).0 == name)
}

pub(super) fn name(algorithm: JwtAlgorithm) -> &'static str {
    row(algorithm).0
}

pub(super) fn key_kind(algorithm: JwtAlgorithm) -> KeyKind {
    row(algorithm).1
}

pub(super) fn in_jsonwebtoken(algorithm: JwtAlgorithm) -> Algorithm {
    row(algorithm).2
}

impl KeyKind {
    /// For the operator: `an RSA key`.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Secret(_) => "a shared secret",
            Self::Rsa => "an RSA key",
            Self::P256 => "an EC key on P-256",
            Self::P384 => "an EC key on P-384",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for algorithm in ALL {
            assert_eq!(named(name(algorithm)), Some(algorithm));
            assert_eq!(name(algorithm), format!("{algorithm:?}"));
            assert_eq!(name(algorithm), format!("{:?}", in_jsonwebtoken(algorithm)));
        }
        assert_eq!(named("Ed25519"), Some(JwtAlgorithm::EdDSA));
        for wrong in ["Ed448", "ed25519", "none", "None", "NONE", "hs256", "HS256 ", "", "ES512", "ES256K", "EdDSA\0"] {
            assert_eq!(named(wrong), None, "{wrong:?}");
        }
    }
}
