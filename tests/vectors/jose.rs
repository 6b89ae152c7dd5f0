//! Wycheproof and RFC 7520: signatures of tokens, through the authentication of a route.
//!
//! Their payloads are no claims (`foo`, a sentence of Tolkien). A signature that verifies therefore shows in the reason of
//! the refusal: the payload is looked at only behind it.

use std::{fs, path::Path};

use ::base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gapura_config::{
    fault::Place,
    model::{self, JwtAlgorithm},
};
use gapura_filters::{
    authentication::{Authentication, KeySets, Method},
    contract::Code,
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Outcomes, list, suite, text};

/// Every public-key algorithm at once: what binds a key to its own must be the key set, not the configuration.
const PUBLIC: [JwtAlgorithm; 9] = [
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

/// What became of a token.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Its signature verifies.
    Signed,
    Refused(String),
    /// The gateway does not take such a key at all: the policy does not compile.
    NoKey(String),
}

// Why the gateway differs.
const OTHER_ALGORITHM: &str = "The key is bound to PS256, and the token names PS384 (RFC 7517, section 4.4).";
const P_521: &str = "P-521 is not supported; such a key is passed over when the policy is built.";
const SAME_AS_VALID: &str = "Letter by letter the token of test 357, which is valid: the suite has lost the padding.";
const ONE_SPELLING: &str = "Base64url has no `?`: a token has one spelling.";
const ONE_SECRET: &str = "A shared secret does not belong in a key set; `secret` takes one.";
const SHORT_SECRET: &str = "A short secret is taken with a warning.";
const ROCA: &str =
    "The weak primes of one manufacturer's smart cards are not looked for: no issuer signs with such a card.";

fn verdict(keys: &[Value], token: &str) -> Verdict {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = match config(keys, &folder) {
        Ok(config) => config,
        Err(why) => return Verdict::NoKey(why),
    };
    let method = match Method::jwt("v", &config, &KeySets::default()) {
        Ok(method) => method,
        Err(faults) => {
            assert!(!faults.is_empty(), "a key is refused without a fault");
            return Verdict::NoKey(faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; "));
        }
    };
    let short = keys.iter().any(|key| key["kty"] == "oct" && key["k"].as_str().is_some_and(|k| k.len() < 43));
    assert!(!short || !method.warnings().is_empty(), "a short secret is taken without a warning");
    let route = Authentication::new(&Place::root(), vec![method]).expect("one method has no conflict");
    let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) else {
        return Verdict::Refused("no field value".into());
    };
    match route.authenticate(&HeaderMap::from_iter([(AUTHORIZATION, value)]), 0) {
        Ok(_) => Verdict::Signed,
        Err(refusal) => {
            assert_eq!(refusal.code, Code::CredentialsInvalid, "{token}: {}", refusal.reason);
            let behind = ["jwt.v: the token's payload:", "jwt.v: the token has no `exp`"];
            if behind.iter().any(|reason| refusal.reason.starts_with(reason)) {
                Verdict::Signed
            } else {
                Verdict::Refused(refusal.reason.into_owned())
            }
        }
    }
}

/// As an operator would write it: a shared secret by `secret`, everything else by a key set.
fn config(keys: &[Value], folder: &TempDir) -> Result<model::Jwt, String> {
    let shared = keys.iter().filter(|key| key["kty"] == "oct").count();
    let mut config: model::Jwt = serde_json::from_value(json!({ "algorithms": [] })).expect("the defaults");
    config.algorithms = PUBLIC.to_vec();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a temporary file");
        reference(&path)
    };
    if let ([key], 1) = (keys, shared) {
        let algorithm = serde_json::from_value(key["alg"].clone());
        config.algorithms = vec![algorithm.map_err(|_| format!("`alg` {} does not exist", key["alg"]))?];
        let mut secret = URL_SAFE_NO_PAD.decode(text(key, "k")).map_err(|why| why.to_string())?;
        // The newline is the one that a file's end loses.
        secret.push(b'\n');
        config.secret = write("secret", &secret).parse().ok();
    } else {
        config.jwks = Some(write("jwks.json", json!({ "keys": keys }).to_string().as_bytes()));
    }
    Ok(config)
}

fn reference(path: &Path) -> String {
    format!("file:{}", path.display())
}

/// Without the members that make a key private.
fn public(key: &Value) -> Value {
    let mut key = key.clone();
    if let Some(members) = key.as_object_mut() {
        members.retain(|name, _| !["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
    }
    key
}

fn run(name: &str, file: &str, explained: &[(&str, &str)]) {
    let suite = suite(file);
    let mut outcomes = Outcomes::default();
    for group in list(&suite, "testGroups") {
        let key = if group["public"].is_null() { &group["private"] } else { &group["public"] };
        let keys = key["keys"].as_array().cloned().unwrap_or_else(|| vec![key.clone()]);
        for test in list(group, "tests") {
            let Some(token) = test["jws"].as_str() else {
                outcomes.count("unsupported (JWE)");
                continue;
            };
            let verdict = verdict(&keys, token);
            outcomes.count(match &verdict {
                Verdict::Signed => "accepted",
                Verdict::Refused(_) => "refused",
                Verdict::NoKey(_) => "unsupported (the key is refused)",
            });
            if (verdict == Verdict::Signed) != (test["result"] == "valid") {
                outcomes.differs(
                    &test["tcId"],
                    format!("{} `{}` gives {verdict:?}", group["comment"], text(test, "comment")),
                );
            }
        }
    }
    outcomes.judge(name, explained);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_json_web_signature() {
    let explained = [
        ("346", OTHER_ALGORITHM),
        ("347", P_521),
        ("350", OTHER_ALGORITHM),
        ("351", P_521),
        ("367", SAME_AS_VALID),
        ("370", SAME_AS_VALID),
        ("372", ONE_SPELLING),
        ("373", ONE_SPELLING),
    ];
    run("Wycheproof JSON Web Signature", "wycheproof/json_web_signature_test.json", &explained);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_json_web_key() {
    let explained = [("2", ONE_SECRET), ("7", ROCA), ("10", SHORT_SECRET), ("11", SHORT_SECRET), ("12", SHORT_SECRET)];
    run("Wycheproof JSON Web Key", "wycheproof/json_web_key_test.json", &explained);
}

#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn wycheproof_json_web_crypto() {
    let explained = [("46", ROCA), ("48", ONE_SECRET)];
    run("Wycheproof JSON Web Crypto", "wycheproof/json_web_crypto_test.json", &explained);
}

/// Each example in compact form, as a client would send it; and with one bit of its signature changed.
#[test]
#[ignore = "needs GAPURA_VECTORS"]
fn rfc_7520_signatures() {
    const EXAMPLES: [&str; 11] = [
        "jws/4_1.rsa_v15_signature",
        "jws/4_2.rsa-pss_signature",
        "jws/4_3.ecdsa_signature",
        "jws/4_4.hmac-sha2_integrity_protection",
        "jws/4_5.signature_with_detached_content",
        "jws/4_6.protecting_specific_header_fields",
        "jws/4_7.protecting_content_only",
        "jws/4_8.multiple_signatures",
        "curve25519/jws",
        "rfc7797/hmac-sha2_b64_false",
        "rfc7797/4.2.hmac-sha2_b64_false",
    ];
    let explained = [
        ("jws/4_3.ecdsa_signature", P_521),
        (
            "jws/4_5.signature_with_detached_content",
            "A bearer token carries its claims; with the content put back it is accepted.",
        ),
        ("rfc7797/hmac-sha2_b64_false", "`b64` changes what is signed: it is refused, as is every `crit`."),
    ];
    let mut outcomes = Outcomes::default();
    for name in EXAMPLES {
        let example = suite(&format!("rfc7520/{name}.json"));
        let Some(compact) = example["output"]["compact"].as_str() else {
            // Only compact tokens fit a header; the JSON of the others must do no harm.
            let json = example["output"]["json"].to_string();
            let key = example["input"]["key"].as_array().map_or(&example["input"]["key"], |keys| &keys[0]);
            let key = with_algorithm(key, &example["input"]["alg"]);
            assert!(!matches!(verdict(&[key], &json), Verdict::Signed), "{name}");
            outcomes.count("unsupported (JSON serialization)");
            continue;
        };
        let key = with_algorithm(&example["input"]["key"], &example["input"]["alg"]);
        let verdict = verdict(std::slice::from_ref(&key), compact);
        outcomes.count(match &verdict {
            Verdict::Signed => "accepted",
            Verdict::Refused(_) => "refused",
            Verdict::NoKey(_) => "unsupported (the key is refused)",
        });
        if verdict != Verdict::Signed {
            outcomes.differs(name, format!("{verdict:?}"));
        }
        let (signed, signature) = compact.rsplit_once('.').expect("three parts");
        let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        signature[0] ^= 1;
        let changed = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_ne!(self::verdict(std::slice::from_ref(&key), &changed), Verdict::Signed, "{name}");
        if name.contains("detached") {
            let whole = format!("{}.{}", text(&example["signing"], "sig-input"), text(&example["signing"], "sig"));
            assert_eq!(self::verdict(&[key], &whole), Verdict::Signed, "{name}, its content put back");
        }
    }
    outcomes.judge("RFC 7520 and its successors, JWS", &explained);
}

/// The cookbook names the algorithm beside the key.
fn with_algorithm(key: &Value, algorithm: &Value) -> Value {
    let mut key = public(key);
    if key["alg"].is_null() && algorithm.is_string() {
        key["alg"] = algorithm.clone();
    }
    key
}
