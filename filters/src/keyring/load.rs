//! From `[keyrings.NAME]` as written to keys, or to everything that is wrong with them.

use std::sync::Arc;

use aws_lc_rs::{
    agreement,
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey, PublicEncryptingKey},
};
use gapura_config::{
    fault::{Fault, Place},
    model::{self, KeyKind, KeyState},
    secret::{Secret, SecretRef},
};
use zeroize::Zeroizing;

use super::{AgreementKey, Key, Keyring, RemoteRsa, RsaKey, Version};
use crate::{
    contract::{KeyReader, Purpose, RemoteKey, advice},
    crypto::{Curve, PublicJwk},
    instant,
    pem::{self, NotPem},
};

/// Below, a secret could be guessed; above, it is a file named by mistake.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 32..=4096;
/// Below is within reach of factoring (NIST SP 800-131A); above, one envelope costs milliseconds.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

impl Keyring {
    /// Reads the keys that open. Every fault is reported; none holds a byte of a key.
    pub fn build(name: &str, config: &model::Keyring) -> Result<Self, Vec<Fault>> {
        Self::reading(name, config, &KeyReader::default())
    }

    /// With keys of a key service.
    pub fn reading(name: &str, config: &model::Keyring, keys: &KeyReader) -> Result<Self, Vec<Fault>> {
        let list = Place::root().key("keyrings").key(name).key("versions");
        let mut faults = Vec::new();
        let mut versions = Vec::with_capacity(config.versions.len());
        for (at, written) in config.versions.iter().enumerate() {
            match version(name, config.kind, written, (&list.index(at), &keys.anew())) {
                Ok(version) => versions.push(version),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { name: name.to_owned(), kind: config.kind, versions: versions.into() })
    }
}

fn version(
    ring: &str,
    kind: KeyKind,
    written: &model::KeyVersion,
    (place, keys): (&Place, &KeyReader),
) -> Result<Version, Fault> {
    let until = written.until.as_ref().map(|until| {
        let fault = Fault::at(place.key("until"), "without an offset this is no instant");
        instant::unix_ms(until).ok_or_else(|| fault.help("write one as 2027-01-01T00:00:00Z"))
    });
    let key = match written.state {
        KeyState::Revoked => None,
        _ => Some(read(kind, &written.key, keys).map_err(|(why, help)| Fault::at(place.key("key"), why).help(help))?),
    };
    Ok(Version {
        kid: written.kid.clone().unwrap_or_else(|| format!("{ring}.{}", written.id)),
        state: written.state,
        until: until.transpose()?,
        key,
        leases: keys.leases().into(),
    })
}

fn read(kind: KeyKind, reference: &SecretRef, keys: &KeyReader) -> Result<Key, Unfit> {
    const HELP: &str = "set it before the gateway starts or reloads";
    let unfit = |(why, help)| (format!("`{reference}`: {why}"), help);
    if kind == KeyKind::Rsa
        && let Some(found) = keys.remote(reference, Purpose::Decrypt)
    {
        const PAIR: &str = "name a key of RSA_2048, RSA_3072 or RSA_4096, for ENCRYPT_DECRYPT";
        let private = found.map_err(|why| advised(reference, why, PAIR))?;
        return remote(private).map(Key::Remote).map_err(|why| unfit((why, PAIR)));
    }
    let bytes = keys.read(reference).map_err(|why| advised(reference, why, HELP))?;
    key(kind, bytes).map_err(unfit)
}

/// What is wrong, and what to do.
type Unfit = (String, &'static str);

fn advised(reference: &SecretRef, why: String, plain: &'static str) -> Unfit {
    let help = advice(reference, &why, plain);
    (why, help)
}

fn key(kind: KeyKind, bytes: Secret) -> Result<Key, Unfit> {
    if kind == KeyKind::Secret {
        return secret(bytes).map(Key::Secret);
    }
    let help = match kind {
        KeyKind::X25519 => "`openssl genpkey -algorithm x25519` makes one",
        KeyKind::P256 => "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one",
        _ => "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072` makes one",
    };
    let unfit = |why: &str| (why.to_owned(), help);
    let (label, der) = pem::block(bytes.bytes()).map_err(|why| {
        unfit(match why {
            NotPem::Absent => "no PEM; it must hold one `-----BEGIN PRIVATE KEY-----` block",
            NotPem::Several => "more than one PEM block; write the private key alone",
            NotPem::Base64 => "a PEM block whose base64 cannot be read",
        })
    })?;
    match label {
        "PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => {
            let why = "the private key is protected by a passphrase".to_owned();
            return Err((why, "`openssl pkey -in KEY -out PLAIN` writes it without"));
        }
        _ if label.ends_with("PRIVATE KEY") => {
            return Err(("not PKCS #8".into(), "`openssl pkcs8 -topk8 -nocrypt -in KEY -out PKCS8` converts it"));
        }
        _ => return Err(unfit("no private key")),
    }
    let (identifier, inner) = pem::pkcs8(&der).ok_or_else(|| unfit("a private key that cannot be read"))?;
    let found = match identifier {
        pem::X25519 => Some(KeyKind::X25519),
        pem::EC_P256 => Some(KeyKind::P256),
        pem::RSA => Some(KeyKind::Rsa),
        _ => None,
    };
    if found != Some(kind) {
        let found = found.map_or("neither x25519, p256 nor rsa", KeyKind::name);
        return Err((format!("this key is {found}, and the ring is of kind {}", kind.name()), help));
    }
    let made = match kind {
        KeyKind::X25519 => pem::curve_private(inner).and_then(|seed| AgreementKey::new(Curve::X25519, seed)),
        KeyKind::P256 => pem::p256_private(inner).and_then(|scalar| AgreementKey::new(Curve::P256, scalar)),
        _ => return rsa(&der).map(Key::Rsa).map_err(|why| (why, help)),
    };
    made.map(Key::Agreement).ok_or_else(|| unfit("a private key that cannot be used"))
}

fn secret(bytes: Secret) -> Result<Secret, Unfit> {
    const HELP: &str = "`openssl rand -hex 32` makes one";
    let length = bytes.bytes().len();
    if bytes.bytes().windows(11).any(|text| text == b"-----BEGIN ") {
        return Err(("a PEM file is no secret".into(), HELP));
    }
    if !SECRET_BYTES.contains(&length) {
        return Err((format!("a secret of {length} bytes; it must have 32 to 4096"), HELP));
    }
    Ok(bytes)
}

fn rsa(der: &[u8]) -> Result<RsaKey, String> {
    let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| UNUSABLE)?;
    in_range(key.key_size_bits())?;
    let public: PublicKeyX509Der<'_> = key.public_key().as_der().map_err(|_| UNUSABLE)?;
    let public = public_rsa(public.as_ref())?;
    let private = OaepPrivateDecryptingKey::new(key).map_err(|_| UNUSABLE)?;
    Ok(RsaKey { private, public })
}

/// What a key service says of its key is held to the same.
fn remote(private: Arc<dyn RemoteKey>) -> Result<RemoteRsa, String> {
    let public = PublicEncryptingKey::from_der(private.public()).map_err(|_| UNUSABLE)?;
    in_range(public.key_size_bits())?;
    Ok(RemoteRsa { public: public_rsa(private.public())?, bytes: public.key_size_bytes(), private })
}

const UNUSABLE: &str = "an RSA key that cannot be used";

fn in_range(bits: usize) -> Result<(), String> {
    let fits = RSA_BITS.contains(&bits);
    fits.then_some(()).ok_or_else(|| format!("an RSA key of {bits} bits; it must have 2048 to 4096"))
}

fn public_rsa(spki: &[u8]) -> Result<PublicJwk, String> {
    let (n, e) = pem::spki(spki).and_then(|(_, key)| pem::rsa(key)).ok_or(UNUSABLE)?;
    Ok(PublicJwk::Rsa { n: pem::without_leading_zeros(n).to_vec(), e: pem::without_leading_zeros(e).to_vec() })
}

impl AgreementKey {
    /// From the 32 bytes of the private key. None: they are no key.
    pub fn new(curve: Curve, scalar: &[u8; 32]) -> Option<Self> {
        let private = agreement::PrivateKey::from_private_key(curve.algorithm(), scalar).ok()?;
        let public = private.compute_public_key().ok()?;
        let public = match curve {
            Curve::X25519 => PublicJwk::X25519(public.as_ref().try_into().ok()?),
            Curve::P256 => PublicJwk::P256(public.as_ref().try_into().ok()?),
        };
        Some(Self { curve, private, scalar: Zeroizing::new(*scalar), public })
    }
}
