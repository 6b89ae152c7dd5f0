//! Public keys as JSON Web Keys (RFC 7517, RFC 7518 section 6, RFC 8037): those that are offered, and those that clients
//! send for a response.

use aws_lc_rs::agreement::{self, ECDH_P256, X25519};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::json::{Json, Object};

/// The two groups that keys are agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    X25519,
    P256,
}

/// A public key, of the right form. Whether a point lies on its curve is checked where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicJwk {
    X25519([u8; 32]),
    /// Uncompressed: 4, x, y.
    P256([u8; 65]),
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl Curve {
    pub fn algorithm(self) -> &'static agreement::Algorithm {
        match self {
            Self::X25519 => &X25519,
            Self::P256 => &ECDH_P256,
        }
    }
}

impl PublicJwk {
    /// A public key on one of the curves; nothing else, and no member that RFC 7518 and RFC 8037 do not ask for. A private
    /// member, above all: whoever sends one has no secret left.
    pub fn of_curve(key: &Object<'_>) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Json::as_str);
        let coordinate = |name: &str| -> Option<[u8; 32]> { decode(text(name)?)?.try_into().ok() };
        match (text("kty")?, text("crv")?, key.iter().count()) {
            ("OKP", "X25519", 3) => Some(Self::X25519(coordinate("x")?)),
            ("EC", "P-256", 4) => {
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&coordinate("x")?);
                point[33..].copy_from_slice(&coordinate("y")?);
                Some(Self::P256(point))
            }
            _ => None,
        }
    }

    pub fn curve(&self) -> Option<Curve> {
        match self {
            Self::X25519(_) => Some(Curve::X25519),
            Self::P256(_) => Some(Curve::P256),
            Self::Rsa { .. } => None,
        }
    }

    /// The bytes that a key agreement takes; of RSA none.
    pub fn agreement_bytes(&self) -> &[u8] {
        match self {
            Self::X25519(key) => key,
            Self::P256(point) => point,
            Self::Rsa { .. } => &[],
        }
    }

    /// The members of the key itself, in the order of RFC 7638. Others (`kid`, `use`) are the caller's to add.
    pub fn members(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
        let members = match self {
            Self::X25519(key) => vec![("crv", "X25519".into()), ("kty", "OKP".into()), ("x", text(key))],
            Self::P256(point) => {
                let (x, y) = point[1..].split_at(32);
                vec![("crv", "P-256".into()), ("kty", "EC".into()), ("x", text(x)), ("y", text(y))]
            }
            Self::Rsa { n, e } => vec![("e", text(e)), ("kty", "RSA".into()), ("n", text(n))],
        };
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Base64url without padding, one spelling of each.
fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse_object;

    #[test]
    fn a_key_is_read_as_it_is_written() {
        for key in [PublicJwk::X25519([7; 32]), PublicJwk::P256([4; 65])] {
            let text = Value::from(key.members()).to_string();
            assert_eq!(PublicJwk::of_curve(&parse_object(text.as_bytes()).unwrap()), Some(key));
        }
    }

    #[test]
    fn what_is_no_plain_public_key_is_refused() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        for text in [
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}","d":"{x}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}","kid":"a"}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X448","x":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"X25519","x":"{x}"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}A"}}"#),
            format!(r#"{{"kty":"OKP","crv":"X25519","x":"{x}="}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{x}"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":7}}"#),
            r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.into(),
            r#"{"kty":"oct","k":"AQAB"}"#.into(),
            "{}".into(),
        ] {
            assert_eq!(PublicJwk::of_curve(&parse_object(text.as_bytes()).unwrap()), None, "{text}");
        }
    }
}
