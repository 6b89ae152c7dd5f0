//! A DPoP proof (RFC 9449, section 4): a token that a client signs for one request, with its own key inside.
//!
//! The only place where a key that a token brings along is looked at. It proves nothing by itself: it must be the key that the
//! access token is bound to.

use gapura_config::model::JwtAlgorithm;
use sha2::{Digest as _, Sha256};

use super::{
    algorithm::{self, KeyKind},
    jwks::{self, SetKey},
    keys::signature_fits,
    token::{Token, decode},
};
use crate::{
    authentication::Reason,
    json::{self, Json, Object},
};

/// A proof whose signature verifies with its own key. What it says has still to be compared with the request.
pub(in crate::authentication) struct Proof {
    /// RFC 7638, of the key.
    pub(in crate::authentication) thumbprint: [u8; 32],
    pub(in crate::authentication) jti: String,
    pub(in crate::authentication) htm: String,
    pub(in crate::authentication) htu: String,
    pub(in crate::authentication) iat_ms: i64,
    /// SHA-256 of the access token.
    pub(in crate::authentication) ath: Vec<u8>,
    pub(in crate::authentication) nonce: Option<String>,
}

/// Remembered as a hash; libraries write some 20 to 40 characters.
const MAX_JTI: usize = 256;

impl Proof {
    /// RFC 9449, section 4.3, what can be checked without the request.
    pub(in crate::authentication) fn read(text: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Self, Reason> {
        let token = Token::parse(text)?;
        token.check_typ(Some("dpop+jwt"))?;
        if !algorithms.contains(&token.algorithm()) {
            return Err("its `alg` is not accepted".into());
        }
        let (key, thumbprint) = own_key(text)?;
        if !key.fits(token.algorithm()) {
            return Err("its `alg` does not go with its key".into());
        }
        if !signature_fits(token.algorithm(), &key.public.key, &token) {
            return Err("its signature does not verify".into());
        }
        let claims = token.claims()?;
        let text = |name: &'static str| match claims.get(name) {
            Some(Json::String(text)) => Ok(text.to_string()),
            _ => Err(Reason::from(format!("it has no `{name}`, or none that is a string"))),
        };
        let jti = text("jti")?;
        if jti.is_empty() || jti.len() > MAX_JTI {
            return Err("its `jti` has not 1 to 256 bytes".into());
        }
        let nonce = claims.contains("nonce").then(|| text("nonce")).transpose()?;
        let iat_ms = super::claims::issued(&claims)?.ok_or("it has no `iat`")?;
        let ath = decode(text("ath")?.as_bytes()).ok_or("its `ath` is not base64url")?;
        Ok(Self { thumbprint, jti, htm: text("htm")?, htu: text("htu")?, iat_ms, ath, nonce })
    }
}

/// The `jwk` of the header, which [`Token`] never looks at, and its thumbprint.
fn own_key(text: &[u8]) -> Result<(SetKey, [u8; 32]), Reason> {
    let header = text.split(|byte| *byte == b'.').next().and_then(decode).ok_or("its header is not base64url")?;
    let header = json::parse_object(&header).map_err(|why| format!("its header: {why}"))?;
    let jwk = header.get("jwk").and_then(Json::as_object).ok_or("it has no key (`jwk`)")?;
    // RFC 9449, section 4.3, number 7: nothing of a private key.
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|secret| jwk.contains(secret)) {
        return Err("its key is not only the public part".into());
    }
    let key =
        jwks::read_key(jwk).map_err(|why| format!("its key: {why}"))?.ok_or("its key is of no kind that is taken")?;
    let thumbprint = thumbprint(&key, jwk)?;
    Ok((key, thumbprint))
}

/// RFC 7638, section 3: the required members, in the order of their names. The key was read, so each is there and has the one
/// spelling that base64url gives it.
fn thumbprint(key: &SetKey, jwk: &Object<'_>) -> Result<[u8; 32], Reason> {
    let member = |name: &str| jwk.get(name).and_then(Json::as_str).ok_or("its key lacks a member");
    let text = match key.public.kind {
        // RFC 7518, section 6.3.1: without leading zeros; with them one key would have two thumbprints.
        KeyKind::Rsa if ["n", "e"].iter().any(|part| member(part).is_ok_and(|text| text.starts_with("AA"))) => {
            return Err("its key has leading zeros".into());
        }
        KeyKind::Rsa => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, member("e")?, member("n")?),
        KeyKind::P256 | KeyKind::P384 => {
            format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, member("crv")?, member("x")?, member("y")?)
        }
        KeyKind::Ed25519 => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, member("x")?),
        KeyKind::Secret(_) => return Err("its key is no public key".into()),
    };
    Ok(Sha256::digest(text).into())
}

/// As challenges name them.
pub(in crate::authentication) fn names(algorithms: &[JwtAlgorithm]) -> String {
    algorithms.iter().map(|algorithm| algorithm::name(*algorithm)).collect::<Vec<_>>().join(" ")
}
