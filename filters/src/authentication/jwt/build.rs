//! From `[jwt.NAME]` as written to a method that verifies, or to everything that is wrong with it.

use std::sync::Arc;

use gapura_config::{
    fault::{Fault, Place},
    model::{self, JwtAlgorithm},
    secret::SecretRef,
    units::Period,
};

use super::{
    JwtMethod, algorithm,
    algorithm::KeyKind,
    claims::{self, Required},
    jwks,
    keys::{Family, Keys, family},
    public_key::PublicKey,
    remote::{KeySets, KeySource, Location},
    verified::Verified,
};
use crate::contract::{KeyReader, advice};

const ONE_KEY: &str = "write one of `secret` (HS*), `public_key`, `jwks` or `discovery` (RS*, PS*, ES*, EdDSA)";

impl JwtMethod {
    /// Reads the keys. Every fault is reported; none holds a byte of a key.
    pub fn build(name: &str, config: &model::Jwt, key_sets: &KeySets, reader: &KeyReader) -> Result<Self, Vec<Fault>> {
        let place = Place::root().key("jwt").key(name);
        let mut faults = Vec::new();
        let mut warnings = Vec::new();

        let mut algorithms = Vec::new();
        for algorithm in &config.algorithms {
            if !algorithms.contains(algorithm) {
                algorithms.push(*algorithm);
            }
        }
        let family = family(&algorithms);
        let claims = claims::compile(&config.claims).map_err(|wrong| {
            let place = place.key("claims");
            let help = "write a member's name, a dotted path or a JSON pointer";
            faults.extend(wrong.into_iter().map(|(claim, why)| Fault::at(place.key(claim), why).help(help)));
        });
        let require = read_required(&place.key("require"), config).map_err(|found| faults.extend(found));
        if config.issuer.as_deref() == Some("") {
            let fault = Fault::at(place.key("issuer"), "the issuer is empty");
            faults.push(fault.help("write the exact `iss` of the tokens, or remove the key"));
        }
        if let Some(at) = config.audience.iter().position(String::is_empty) {
            let fault = Fault::at(place.key("audience").index(at), "the audience is empty");
            faults.push(fault.help("write what the tokens carry in `aud`"));
        }
        let method: Arc<str> = format!("jwt.{name}").into();
        let keys = match remote(&method, config) {
            Some(source) => remote_keys(&place, source, &algorithms, key_sets),
            None => read_keys(&place, config, &algorithms, reader, &mut warnings),
        };
        let keys = keys.map_err(|found| faults.extend(found));

        match (keys, claims, require) {
            (Ok((keys, key_source)), Ok(claims), Ok(require)) if faults.is_empty() => Ok(Self {
                name: method,
                algorithms,
                keys,
                key_source,
                source: config.token.clone(),
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                leeway: config.leeway.get(),
                max_age: config.max_age.map(Period::get),
                typ: config.typ.clone(),
                require,
                binding: config.binding,
                decryption: None,
                claims,
                verified: (family == Family::Public).then(Verified::new),
                revocations: Default::default(),
                warnings,
            }),
            _ => Err(faults),
        }
    }
}

fn read_required(place: &Place, config: &model::Jwt) -> Result<Vec<Required>, Vec<Fault>> {
    let (mut required, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in &config.require {
        match Required::parse(name, value) {
            Ok(one) => required.push(one),
            Err(why) => {
                let fault = Fault::at(place.key(name), why).on_key();
                faults.push(fault.help("write a member's name, a dotted path or a JSON pointer"));
            }
        }
    }
    if faults.is_empty() { Ok(required) } else { Err(faults) }
}

/// Where keys are fetched, if they are.
fn remote(method: &Arc<str>, config: &model::Jwt) -> Option<KeySource> {
    let location = match (&config.jwks, &config.issuer) {
        (None, Some(issuer)) if config.discovery => Location::Issuer(issuer.clone()),
        (Some(uri), _) if uri.starts_with("https://") && !config.discovery => Location::Set(uri.clone()),
        _ => return None,
    };
    let only = config.secret.is_none() && config.public_key.is_none();
    only.then(|| KeySource { method: Arc::clone(method), location, ca: config.ca.clone() })
}

/// Nothing is fetched here: a provider that is down stops no start and no check.
fn remote_keys(
    place: &Place,
    source: KeySource,
    algorithms: &[JwtAlgorithm],
    key_sets: &KeySets,
) -> Result<(Keys, String), Vec<Fault>> {
    if family(algorithms) != Family::Public {
        let fault =
            Fault::at(place.key("algorithms"), "a provider publishes public keys, which HS* algorithms do not take");
        return Err(vec![fault.help("write those of the issuer, as [\"RS256\"]")]);
    }
    let name = source.location.to_string();
    Ok((Keys::Remote(algorithms.to_vec(), key_sets.of(source)), name))
}

fn read_keys(
    place: &Place,
    config: &model::Jwt,
    algorithms: &[JwtAlgorithm],
    reader: &KeyReader,
    warnings: &mut Vec<Fault>,
) -> Result<(Keys, String), Vec<Fault>> {
    let listed = place.key("algorithms");
    if algorithms.is_empty() {
        return Err(vec![
            Fault::at(listed, "no algorithm is accepted").help("write those of the issuer, as [\"RS256\"]"),
        ]);
    }
    let fault = |key: &str, message: String, help: &str| Err(vec![Fault::at(place.key(key), message).help(help)]);
    match (family(algorithms), &config.secret, &config.public_key, &config.jwks) {
        (_, None, None, None) if config.discovery => Err(vec![
            Fault::at(place.key("discovery"), "discovery starts from the issuer, and there is none")
                .help("add `issuer = \"https://…\"`"),
        ]),
        (_, None, None, None) => Err(vec![Fault::at(place.clone(), "no key to verify with").help(ONE_KEY)]),
        (Family::Mixed, ..) => Err(vec![
            // The classic confusion: a public key, known to all, taken for the shared secret.
            Fault::at(listed, "algorithms with a shared secret stand beside algorithms with a public key")
                .help("make two tables of them, each with its own key"),
        ]),
        (Family::Secret, Some(reference), None, None) => secret(place, (reference, reader), algorithms, warnings),
        (Family::Public, None, Some(reference), None) => public_key(place, reference, algorithms),
        (Family::Public, None, None, Some(set)) => key_set(place, set, algorithms, warnings),
        (Family::Secret, None, Some(_), None) => {
            fault("public_key", "HS* algorithms take a shared secret, not a public key".into(), "write `secret`")
        }
        (Family::Secret, None, None, Some(_)) => {
            fault("jwks", "HS* algorithms take a shared secret, not a key set".into(), "write `secret`")
        }
        (Family::Public, Some(_), None, None) => fault(
            "secret",
            "these algorithms take a public key, not a shared secret".into(),
            "write `public_key` or `jwks`",
        ),
        _ => Err(vec![Fault::at(place.clone(), "more than one source of keys").help(ONE_KEY)]),
    }
}

fn secret(
    place: &Place,
    (reference, reader): (&SecretRef, &KeyReader),
    algorithms: &[JwtAlgorithm],
    warnings: &mut Vec<Fault>,
) -> Result<(Keys, String), Vec<Fault>> {
    let place = place.key("secret");
    let one = |fault: Fault| vec![fault];
    let secret = reader.read(reference).map_err(|why| {
        let help = advice(reference, &why, "set the variable or name a readable file that holds the secret");
        one(Fault::at(place.clone(), why).help(help))
    })?;
    // Whoever writes a PEM here means a public key; taken as a secret, everyone who knows it can sign.
    if secret.bytes().trim_ascii_start().starts_with(b"-----BEGIN ") {
        let fault = Fault::at(place, "a PEM file is no shared secret");
        return Err(one(fault.help("for a public key, write `public_key` and an algorithm that takes one, as RS256")));
    }
    // RFC 7518, section 3.2.
    let wanted = algorithms.iter().map(|algorithm| match algorithm::key_kind(*algorithm) {
        KeyKind::Secret(bytes) => bytes,
        _ => 0,
    });
    let wanted = wanted.max().unwrap_or(0);
    if secret.bytes().len() < wanted {
        let message = format!("the secret has fewer than {wanted} bytes: a token is enough to guess it offline");
        warnings.push(Fault::warning(place.clone(), message).help(format!("`openssl rand -hex {wanted}` makes one")));
    }
    let keys = Keys::secret(algorithms, secret.bytes());
    let keys = keys.ok_or_else(|| one(Fault::at(place, "the secret does not fit the algorithms").help(ONE_KEY)))?;
    Ok((keys, reference.to_string()))
}

fn public_key(place: &Place, reference: &SecretRef, algorithms: &[JwtAlgorithm]) -> Result<(Keys, String), Vec<Fault>> {
    let at = place.key("public_key");
    let one = |fault: Fault| vec![fault];
    let text = reference
        .read()
        .map_err(|why| one(Fault::at(at.clone(), why).help("name a readable file with the public key in PEM")))?;
    let public = PublicKey::from_pem(text.bytes()).map_err(|why| {
        let help = "write the issuer's public key in PEM (`-----BEGIN PUBLIC KEY-----`) or its certificate";
        one(Fault::at(at.clone(), format!("`{reference}`: {why}")).help(help))
    })?;
    let unfit = algorithms.iter().filter(|algorithm| algorithm::key_kind(**algorithm) != public.kind);
    let faults: Vec<Fault> = unfit
        .map(|algorithm| {
            let (name, needs) = (algorithm::name(*algorithm), algorithm::key_kind(*algorithm).describe());
            let message = format!("{name} takes {needs}, but `{reference}` holds {}", public.kind.describe());
            Fault::at(at.clone(), message).help("change `algorithms` or the key")
        })
        .collect();
    if faults.is_empty() { Ok((Keys::one(algorithms, &public.key), reference.to_string())) } else { Err(faults) }
}

fn key_set(
    place: &Place,
    written: &str,
    algorithms: &[JwtAlgorithm],
    warnings: &mut Vec<Fault>,
) -> Result<(Keys, String), Vec<Fault>> {
    let at = place.key("jwks");
    let help = "write jwks = \"file:/etc/gapura/jwks.json\" or \"https://host/path\"";
    let one = |message: String| vec![Fault::at(at.clone(), message).help(help)];
    let reference = match written.parse::<SecretRef>() {
        Ok(reference @ SecretRef::File(_)) => reference,
        _ => return Err(one("a key set is a file or an https address".into())),
    };
    let text = reference.read().map_err(one)?;
    let set = jwks::read(text.bytes()).map_err(|wrong| {
        wrong
            .into_iter()
            .map(|why| Fault::at(at.clone(), format!("`{reference}`: {why}")).help("correct the key set"))
            .collect::<Vec<_>>()
    })?;
    let keys = Keys::set(algorithms, &set);
    let without: Vec<&str> = keys.without_key().map(algorithm::name).collect();
    if without.len() == algorithms.len() {
        let message = format!("`{reference}` has no key for {}", without.join(" or "));
        return Err(vec![Fault::at(at, message).help("change `algorithms` or the key set")]);
    }
    let unused = without.into_iter().map(|name| {
        Fault::warning(at.clone(), format!("`{reference}` has no key for {name}"))
            .help(format!("remove {name} from `algorithms`"))
    });
    warnings.extend(unused);
    Ok((keys, reference.to_string()))
}
