//! Keys in this process.

use std::future::ready;

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{Answer, Signer};

/// Of a private key in PEM.
pub const MAX_KEY: usize = 64 * 1024;

/// A private key of the configuration. The library wipes it when it is dropped.
pub struct LocalKey {
    pair: Pair,
    random: SystemRandom,
    kid: String,
    jwk: String,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl LocalKey {
    /// One private key in PEM: PKCS #8, or the older forms of EC and RSA. The error never quotes the text.
    pub fn from_pem(text: &[u8]) -> Result<Self, &'static str> {
        let (label, der) = pem(text)?;
        let pair = match label {
            "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY" => pair(&der, label)?,
            "ENCRYPTED PRIVATE KEY" => return Err("it is protected by a passphrase"),
            _ if label.contains("PUBLIC") || label.contains("CERTIFICATE") => {
                return Err("it is a public key; the private one signs");
            }
            _ => return Err("it is no private key in PEM"),
        };
        let (algorithm, members) = describe(&pair)?;
        // RFC 7638: exactly these members, in the order of their names.
        let kid = URL_SAFE_NO_PAD.encode(Sha256::digest(&members));
        let rest = members.trim_start_matches('{');
        let jwk = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","use":"sig",{rest}"#);
        Ok(Self { pair, random: SystemRandom::new(), kid, jwk })
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
        match &self.pair {
            Pair::P256(pair) => pair.sign(&self.random, message).map(|signature| signature.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut signature).map(|()| signature)
            }
        }
    }
}

impl Signer for LocalKey {
    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
            Pair::Rsa(_) => "RS256",
        }
    }
    fn kid(&self) -> &str {
        &self.kid
    }
    fn public_jwk(&self) -> Option<&str> {
        Some(&self.jwk)
    }
    fn sign<'a>(&'a self, message: &'a [u8]) -> Answer<'a, Vec<u8>> {
        Box::pin(ready(self.signature(message).map_err(|_| "the key cannot sign".to_owned())))
    }
    fn verify<'a>(&'a self, message: &'a [u8], signature: &'a [u8]) -> Answer<'a, bool> {
        let public: (&'static dyn signature::VerificationAlgorithm, &[u8]) = match &self.pair {
            Pair::P256(pair) => (&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Pair::Ed25519(pair) => (&ED25519, pair.public_key().as_ref()),
            Pair::Rsa(pair) => (&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
        };
        Box::pin(ready(Ok(UnparsedPublicKey::new(public.0, public.1).verify(message, signature).is_ok())))
    }
}

/// PKCS #8 says itself what it holds; one of these takes it, and the others refuse it by its algorithm.
fn pair(der: &[u8], label: &str) -> Result<Pair, &'static str> {
    if label != "RSA PRIVATE KEY"
        && let Ok(pair) = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
    {
        return Ok(Pair::P256(pair));
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Pair::Ed25519(pair));
    }
    match RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
        Ok(pair) if pair.public_modulus_len() >= KeySize::Rsa2048.len() => Ok(Pair::Rsa(pair)),
        _ => Err("it is neither EC on P-256, nor Ed25519, nor RSA of 2048 to 8192 bits"),
    }
}

/// The algorithm, and the members of the public key that RFC 7638 asks for.
fn describe(pair: &Pair) -> Result<(&'static str, String), &'static str> {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Ok(match pair {
        Pair::P256(pair) => {
            let (x, y) = pair.public_key().as_ref().get(1..65).ok_or("its public part cannot be read")?.split_at(32);
            ("ES256", format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, b64(x), b64(y)))
        }
        Pair::Ed25519(pair) => {
            ("EdDSA", format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, b64(pair.public_key().as_ref())))
        }
        Pair::Rsa(pair) => {
            let (n, e) = rsa_numbers(pair.public_key().as_ref()).ok_or("its public part cannot be read")?;
            ("RS256", format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, b64(e), b64(n)))
        }
    })
}

/// RFC 8017, appendix A.1.1, of a key that the library wrote: SEQUENCE { modulus, exponent }, without their leading zeros.
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, _) = element(der, 0x30)?;
    let (n, rest) = element(body, 0x02)?;
    let (e, _) = element(rest, 0x02)?;
    Some((n.strip_prefix(&[0]).unwrap_or(n), e.strip_prefix(&[0]).unwrap_or(e)))
}

/// The contents of the first element, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    let (length, rest) = match (*length, rest) {
        (short @ 0..=0x7f, rest) => (usize::from(short), rest),
        (0x81, [a, rest @ ..]) => (usize::from(*a), rest),
        (0x82, [a, b, rest @ ..]) => (usize::from(*a) << 8 | usize::from(*b), rest),
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// RFC 7468: the one block of a text. OpenSSL writes the parameters of a curve before an `EC PRIVATE KEY`.
fn pem(text: &[u8]) -> Result<(&str, Zeroizing<Vec<u8>>), &'static str> {
    const NOT_PEM: &str = "it is no private key in PEM";
    let text = str::from_utf8(text).ok().filter(|text| text.len() <= MAX_KEY).ok_or(NOT_PEM)?;
    let mut blocks = text.split("-----BEGIN ").skip(1).filter(|block| !block.starts_with("EC PARAMETERS"));
    let (Some(block), None) = (blocks.next(), blocks.next()) else { return Err("it holds not exactly one key in PEM") };
    let (label, block) = block.split_once("-----").ok_or(NOT_PEM)?;
    let (body, _) = block.split_once(&*format!("-----END {label}-----")).ok_or(NOT_PEM)?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    let der = STANDARD.decode(&*base64).map_err(|_| "its base64 cannot be read, or it is protected by a passphrase")?;
    Ok((label, Zeroizing::new(der)))
}

/// HS256, for tokens that only the gateway itself reads.
pub struct SharedKey {
    // The key schedule, computed once; wiped when dropped.
    mac: Hmac<Sha256>,
    kid: String,
}

impl SharedKey {
    /// `purpose` keeps tokens of one kind from passing for those of another where they share a secret.
    pub fn new(secret: &[u8], purpose: &str) -> Self {
        let mut derived = keyed(secret);
        derived.update(purpose.as_bytes());
        let derived = Zeroizing::new(<[u8; 32]>::from(derived.finalize().into_bytes()));
        Self { mac: keyed(&*derived), kid: purpose.to_owned() }
    }
}

fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

impl Signer for SharedKey {
    fn algorithm(&self) -> &'static str {
        "HS256"
    }
    fn kid(&self) -> &str {
        &self.kid
    }
    fn public_jwk(&self) -> Option<&str> {
        None
    }
    fn sign<'a>(&'a self, message: &'a [u8]) -> Answer<'a, Vec<u8>> {
        let mut mac = self.mac.clone();
        mac.update(message);
        Box::pin(ready(Ok(mac.finalize().into_bytes().to_vec())))
    }
    /// In constant time; a MAC of another length does not fit.
    fn verify<'a>(&'a self, message: &'a [u8], signature: &'a [u8]) -> Answer<'a, bool> {
        let mut mac = self.mac.clone();
        mac.update(message);
        Box::pin(ready(Ok(mac.verify_slice(signature).is_ok())))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use super::{super::Jws, *};

    fn now<T>(answer: impl Future<Output = T>) -> T {
        match Box::pin(answer).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    const P256: &[u8] = include_bytes!("../../tests/keys/p256.key");
    const RSA: &[u8] = include_bytes!("../../tests/keys/rsa.key");
    const ED25519_KEY: &[u8] = include_bytes!("../../tests/keys/ed25519.key");

    fn keys() -> Vec<Arc<dyn Signer>> {
        let mut keys: Vec<Arc<dyn Signer>> = vec![Arc::new(SharedKey::new(&[7; 32], "test"))];
        for pem in [P256, RSA, ED25519_KEY] {
            keys.push(Arc::new(LocalKey::from_pem(pem).unwrap()));
        }
        keys
    }

    #[test]
    fn what_a_key_signs_it_verifies_and_nothing_else() {
        let keys = keys();
        let algorithms: Vec<&str> = keys.iter().map(|key| key.algorithm()).collect();
        assert_eq!(algorithms, ["HS256", "ES256", "RS256", "EdDSA"]);
        for key in &keys {
            let jws = Jws::new(Arc::clone(key), "test+jwt");
            let token = now(jws.sign(&serde_json::json!({"a": 1}))).unwrap();
            assert_eq!(now(jws.verify(&token)).unwrap().as_deref(), Some(&br#"{"a":1}"#[..]));
            let other = Jws::new(Arc::clone(key), "other+jwt");
            assert_eq!(now(other.verify(&token)).unwrap(), None, "of another kind");
            for stranger in keys.iter().filter(|other| !Arc::ptr_eq(key, other)) {
                assert_eq!(now(Jws::new(Arc::clone(stranger), "test+jwt").verify(&token)).unwrap(), None);
            }
            for at in 0..token.len() {
                let mut changed = token.clone().into_bytes();
                changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(now(jws.verify(&changed)).unwrap(), None, "{}: {at}", key.algorithm());
            }
            let signed = &token[..token.rfind('.').unwrap()];
            for text in [
                "",
                ".",
                "..",
                "...",
                &token[1..],
                &token[..token.len() - 1],
                &format!("{token}="),
                signed,
                &format!("{signed}."),
            ] {
                assert_eq!(now(jws.verify(text)).unwrap(), None, "{text}");
            }
        }
    }

    #[test]
    fn a_public_key_is_published_and_nothing_of_the_private_one() {
        for key in keys() {
            let Some(jwk) = key.public_jwk() else { continue };
            let jwk: serde_json::Value = serde_json::from_str(jwk).unwrap();
            assert_eq!((jwk["alg"].as_str(), jwk["kid"].as_str()), (Some(key.algorithm()), Some(key.kid())));
            for secret in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(jwk.get(secret).is_none(), "{secret}");
            }
        }
    }

    #[test]
    fn what_is_no_private_key_is_told() {
        for (text, part) in [
            (&b""[..], "not exactly one"),
            (include_bytes!("../../tests/keys/p256.pub.pem"), "the private one signs"),
            (include_bytes!("../../tests/keys/p256.cert.pem"), "the private one signs"),
            (include_bytes!("../../tests/keys/p384.key"), "neither EC on P-256"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "passphrase"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "neither EC on P-256"),
            (b"-----BEGIN PRIVATE KEY-----\n%%%\n-----END PRIVATE KEY-----\n", "base64"),
            (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "no private key"),
        ] {
            let why = LocalKey::from_pem(text).err().unwrap_or_else(|| panic!("{part}"));
            assert!(why.contains(part), "{why}");
        }
        let two = [P256, RSA].concat();
        assert!(LocalKey::from_pem(&two).is_err());
    }
}
