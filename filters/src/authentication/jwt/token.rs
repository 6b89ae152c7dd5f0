//! The strict front: a compact JWS taken apart before anything is believed (RFC 7515, section 5.2).
//!
//! Each token has exactly one spelling here. Padding, blanks, non-zero trailing bits, repeated members: what one parser
//! forgives and another does not is how a signature comes to cover something else than what is read.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::model::JwtAlgorithm;

use super::algorithm;
use crate::{
    authentication::Reason,
    json::{self, Json, Object},
};

/// Refused before a byte is looked at. Real tokens have one or two KiB; head limits stand at 32 KiB.
pub(super) const MAX_TOKEN: usize = 8 * 1024;
/// A `kid` is compared, never used as a path or in a query; still it is bounded.
const MAX_KID: usize = 256;

/// A token of the right form. Nothing in it is verified.
pub(in crate::authentication) struct Token<'t> {
    /// The whole of it.
    pub(super) text: &'t [u8],
    pub(super) algorithm: JwtAlgorithm,
    pub(super) kid: Option<String>,
    typ: Option<String>,
    /// `header.payload`, the very bytes that are signed.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
    /// Decoded, not parsed.
    payload: Vec<u8>,
}

impl<'t> Token<'t> {
    pub(in crate::authentication) fn parse(text: &'t [u8]) -> Result<Self, Reason> {
        if text.len() > MAX_TOKEN {
            return Err("the token is longer than 8 KiB".into());
        }
        let mut dots = text.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err("the token has not three parts".into());
        };
        let header = decode(&text[..first]).ok_or("the token's header is not base64url")?;
        let payload = decode(&text[first + 1..second]).ok_or("the token's payload is not base64url")?;
        let signature = decode(&text[second + 1..]).ok_or("the token's signature is not base64url")?;
        if signature.is_empty() {
            return Err("the token carries no signature".into());
        }
        let header = json::parse_object(&header).map_err(|why| format!("the token's header: {why}"))?;
        let (algorithm, kid, typ) = read_header(&header)?;
        Ok(Self { text, algorithm, kid, typ, signed: &text[..second], signature, payload })
    }

    /// The same, of an encrypted token: what was presented is the whole of that, and never what stands in it.
    pub(in crate::authentication) fn within(self, text: &'t [u8]) -> Self {
        Self { text, ..self }
    }

    pub(in crate::authentication) fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    /// RFC 8725, section 3.11: the same issuer and key also sign logout tokens, DPoP proofs and security events, each with a
    /// `typ` of its own. Those say who a user is without granting anything. All common issuers write `JWT`, `at+jwt` or
    /// nothing for what grants; a method may ask for exactly one.
    pub(super) fn check_typ(&self, wanted: Option<&str>) -> Result<(), Reason> {
        let typ = self.typ.as_deref().map(without_media);
        match (wanted, typ) {
            (None, None) => Ok(()),
            (None, Some(typ)) if typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt") => Ok(()),
            (None, Some(_)) => Err("the token's `typ` is neither JWT nor at+jwt".into()),
            (Some(wanted), Some(typ)) if typ.eq_ignore_ascii_case(without_media(wanted)) => Ok(()),
            (Some(_), _) => Err("the token's `typ` is not the required one".into()),
        }
    }

    /// The claims, parsed strictly. They are worth something only after the signature was checked.
    pub(in crate::authentication) fn claims(&self) -> Result<Object<'_>, Reason> {
        json::parse_object(&self.payload).map_err(|why| format!("the token's payload: {why}").into())
    }
}

/// The URL-safe alphabet without padding; this engine refuses `=` and non-zero trailing bits.
pub(super) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

type Header = (JwtAlgorithm, Option<String>, Option<String>);

fn read_header(header: &Object<'_>) -> Result<Header, Reason> {
    // `crit` names extensions that must be understood (RFC 7515, section 4.1.11): none is. `b64` (RFC 7797) changes what
    // is signed, `zip` invites bombs. `jku`, `x5u`, `jwk`, `x5c` bring the sender's own key: they are never looked at.
    for (name, reason) in [
        ("crit", "the token's header has `crit`"),
        ("b64", "the token's header has `b64`"),
        ("zip", "the token's header has `zip`"),
    ] {
        if header.contains(name) {
            return Err(reason.into());
        }
    }
    let algorithm = header.get("alg").and_then(Json::as_str).and_then(algorithm::named);
    let algorithm = algorithm.ok_or("the token's `alg` is not accepted")?;
    let kid = match header.get("kid") {
        None => None,
        Some(Json::String(kid)) if kid.len() <= MAX_KID => Some(kid.to_string()),
        Some(_) => return Err("the token's `kid` is not a string of at most 256 bytes".into()),
    };
    let typ = match header.get("typ") {
        None => None,
        Some(Json::String(typ)) => Some(typ.to_string()),
        Some(_) => return Err("the token's `typ` is no string".into()),
    };
    Ok((algorithm, kid, typ))
}

/// RFC 7515, section 4.1.9: `application/` may be left out.
fn without_media(typ: &str) -> &str {
    const MEDIA: &str = "application/";
    match typ.get(..MEDIA.len()) {
        Some(start) if start.eq_ignore_ascii_case(MEDIA) => &typ[MEDIA.len()..],
        _ => typ,
    }
}
