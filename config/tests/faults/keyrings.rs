//! Keyrings, the profiles that take them, and encrypted tokens.

use gapura_config::fault::{Fault, Severity};

use super::{ANYWHERE, Case, check_all, error, faults, warning, with};

/// An entry of these settings, and a ring `k` of this kind with one sound version.
macro_rules! entry {
    ($($settings:literal),+; $kind:literal) => {
        concat!(
            "[encryption.body]\n",
            $($settings,)+
            "\n[keyrings.k]\nkind = \"",
            $kind,
            "\"\nversions = [{ id = \"1\", key = \"env:K\", state = \"active\" }]"
        )
    };
}

/// A ring `k` with these versions, and an entry that takes it.
macro_rules! ring {
    ($kind:literal, $versions:literal) => {
        concat!(
            "[keyrings.k]\nkind = \"",
            $kind,
            "\"\nversions = [",
            $versions,
            "]\n[encryption.body]\nprofile = \"jwe\"\nkeyrings = [\"k\"]"
        )
    };
}

#[rustfmt::skip]
const KEYRINGS: &[Case] = &[
    error("encryption", ring!("x25519", "{ id = \"a.b\", key = \"env:K\", state = \"active\" }"), (3, 20), "\"a.b\" cannot be the id of a key", "letters, digits"),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"active\" }, { id = \"1\", key = \"env:L\", state = \"pending\" }"), (3, 67), "there is a version `1` already", "the month"),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"pending\" }"), (3, 12), "no version is active", "state = \"active\""),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"active\" }, { id = \"2\", key = \"env:L\", state = \"active\" }"), ANYWHERE, "two versions are active", "\"retiring\" for the old one"),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"active\", until = 2027-01-01T00:00:00Z }"), ANYWHERE, "`until` ends a key that is retiring, and this one is active", "state = \"retiring\""),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"active\", kid = \"theirs\" }"), ANYWHERE, "the `kid` of a key of kind x25519 is NAME.id", "remove it"),
    error("encryption", "[keyrings.k]\nkind = \"rsa\"\nversions = [{ id = \"1\", key = \"env:K\", state = \"active\", kid = \"k.2\" }, { id = \"2\", key = \"env:K\", state = \"pending\" }]\n[encryption.body]\nprofile = \"jwe-rsa\"\nresponse_key = \"env:R\"\nkeyrings = [\"k\"]", ANYWHERE, "`k.2` is the name of version `2` of `[keyrings.k]`", "another name"),
    error("encryption", "[keyrings.p]\nkind = \"rsa\"\nversions = [{ id = \"1\", key = \"env:K\", state = \"active\", kid = \"k.1\" }]\n[keyrings.k]\nkind = \"x25519\"\nversions = [{ id = \"1\", key = \"env:K\", state = \"active\" }]\n[encryption.body]\nprofile = [\"jwe-rsa\", \"hpke\"]\nresponse_key = \"env:R\"\nkeyrings = [\"k\", \"p\"]", (3, 64), "`k.1` is the name of version `1` of `[keyrings.k]`", "another name"),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"env:K\", state = \"live\" }"), ANYWHERE, "`live` is not a value of `state`", "\"active\""),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"kms:key:alias/a\", state = \"active\" }"), ANYWHERE, "a key that stays in AWS KMS opens for kind rsa only, and this ring is x25519", "kms:file:/path"),
    error("encryption", ring!("x25519", "{ id = \"1\", key = \"-----BEGIN PRIVATE KEY-----\", state = \"active\" }"), ANYWHERE, "a secret is never written here", "env:NAME"),
    error("encryption", ring!("rsa", "{ id = \"1\", key = \"env:K\", state = \"active\" }"), ANYWHERE, "no key of kind rsa is used by jwe", "add the profile that takes it"),
    error("encryption", "[keyrings.\"a.b\"]\nkind = \"x25519\"\nversions = [{ id = \"1\", key = \"env:K\", state = \"active\" }]\n[encryption.body]\nprofile = \"jwe\"\nkeyrings = [\"a.b\"]", (1, 11), "\"a.b\" cannot be the name of a keyring", "letters, digits"),
    error("encryption", entry!("profile = \"jwe\""; "x25519"), ANYWHERE, "`jwe` has no keyring to open with", "kind x25519 or p256 or secret"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"j\"]"; "x25519"), (3, 13), "there is no `[keyrings.j]`", "there is `k`"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nmaster_key = \"env:C\""; "p256"), (4, 1), "`master_key` belongs to the profile `cryptojs`", "remove it"),
    error("encryption", entry!("profile = [\"jwe\", \"cryptojs\"]\nkeyrings = [\"k\"]"; "p256"), ANYWHERE, "derives its keys from a master key, and there is none", "master_key ="),
    error("encryption", entry!("profile = \"cryptojs\"\nmaster_keys = \"k\""; "p256"), (3, 15), "master keys are secrets, and `k` is of kind p256", "kind = \"secret\""),
    error("encryption", entry!("profile = \"cryptojs\"\nmaster_keys = \"j\""; "secret"), (3, 15), "there is no `[keyrings.j]`", "there is `k`"),
    error("encryption", entry!("profile = \"cryptojs\"\nmaster_key = \"env:C\"\nmaster_keys = \"k\""; "secret"), (4, 1), "`master_key` is there, too", "remove one"),
    error("encryption", entry!("profile = [\"jwe\", \"cryptojs\"]\nkeyrings = [\"k\"]\nmaster_keys = \"k\""; "secret"), (4, 15), "is what session keys are derived from", "a ring of its own"),
    error("encryption", entry!("profile = \"cryptojs\"\nkeyrings = [\"k\"]\nmaster_keys = \"k\""; "secret"), (3, 13), "no key of kind secret is used by cryptojs", "remove it"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nmaster_keys = \"k\""; "secret"), (4, 1), "`master_keys` belongs to the profile `cryptojs`", "remove it"),
    error("encryption", entry!("profile = [\"jwe\", \"jwe\"]\nkeyrings = [\"k\"]"; "p256"), (2, 19), "stands in the list already", "remove one"),
    error("encryption", entry!("profile = []\nkeyrings = [\"k\"]"; "p256"), ANYWHERE, "this list is empty", ""),
    error("encryption", entry!("profile = \"jose\"\nkeyrings = [\"k\"]"; "p256"), (2, 11), "`jose` is not a value of `profile`", "\"jwe\""),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nmax_age = \"off\""; "p256"), (4, 11), "is for `cryptojs` alone", "two entries"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nreplay = \"off\""; "p256"), (4, 10), "its envelopes never pass twice", "two entries"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nclock_skew = \"10m\""; "p256"), (4, 14), "`10m` is out of range", "\"1s\" to \"5m\""),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\nsession_key_lifetime = \"2d\""; "secret"), (4, 24), "`2d` is out of range", "\"1m\" to"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\ninner_types = [\"Application/JSON\"]"; "p256"), (4, 16), "is no media type as it is compared", "application/json"),
    error("encryption", entry!("profile = \"jwe\"\nkeyrings = [\"k\"]\npreset = \"visa-mle\""; "p256"), (4, 1), "`preset` belongs to the profile `jwe-rsa`", "remove it"),
    error("encryption", entry!("profile = \"jwe-rsa\"\nkeyrings = [\"k\"]"; "rsa"), (2, 11), "seals responses to the partner's key, and there is none", "response_key ="),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"dir\"] }", (4, 26), "there is no `[keyrings.t]`", "add a table"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"RSA-OAEP-256\"] }\n[keyrings.t]\nkind = \"secret\"\nversions = [{ id = \"1\", key = \"env:T\", state = \"active\" }]", (4, 45), "`RSA-OAEP-256` does not decrypt with keys of kind secret", "another kind"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"RSA-OAEP-256\"] }\n[keyrings.t]\nkind = \"rsa\"\nversions = [{ id = \"1\", key = \"kms:key:alias/a\", state = \"active\" }]", (4, 26), "their keys do not stay in AWS KMS", "kms:file:/path"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"RSA-OAEP\"] }\n[keyrings.t]\nkind = \"rsa\"\nversions = [{ id = \"1\", key = \"env:T\", state = \"active\" }]", (4, 45), "`RSA-OAEP` is not a value", "\"RSA-OAEP-256\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"dir\"], encryption = [\"A128GCM\"] }\n[keyrings.t]\nkind = \"secret\"\nversions = [{ id = \"1\", key = \"env:T\", state = \"active\" }]", ANYWHERE, "A128GCM takes a secret of 16 bytes", "A256GCM"),
    warning("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ndecryption = { keyring = \"t\", algorithms = [\"A256KW\"], accept_unencrypted = true }\n[keyrings.t]\nkind = \"secret\"\nversions = [{ id = \"1\", key = \"env:T\", state = \"active\" }]", ANYWHERE, "a token that is not encrypted passes as well", "only for migrations"),
    warning("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\n[keyrings.t]\nkind = \"secret\"\nversions = [{ id = \"1\", key = \"env:T\", state = \"active\" }]", (4, 11), "nothing uses `[keyrings.t]`", "remove it"),
];

/// An entry that streams, with these settings beside.
macro_rules! stream {
    ($settings:literal) => {
        entry!("profile = \"aes128gcm\"\nkeyrings = [\"k\"]\nstream = true\n", $settings; "secret")
    };
}

#[rustfmt::skip]
const STREAMS: &[Case] = &[
    error("encryption", entry!("profile = [\"aes128gcm\", \"jwe\"]\nkeyrings = [\"k\"]\nstream = true\ninner_types = [\"text/plain\"]"; "secret"), (4, 1), "only `aes128gcm` can be streamed", "make two entries"),
    error("encryption", entry!("profile = \"cryptojs\"\nmaster_key = \"env:C\"\nstream = true"; "secret"), (4, 1), "only `aes128gcm` can be streamed", "make two entries"),
    error("encryption", entry!("profile = \"hpke\"\nkeyrings = [\"k\"]\nstream = true"; "secret"), (4, 1), "only `aes128gcm` can be streamed", "make two entries"),
    error("encryption", stream!("inner_types = [\"text/json\"]"), (5, 16), "JSON is checked whole", "an entry without `stream`"),
    error("encryption", stream!("inner_types = [\"*/*\"]"), (5, 16), "is no media type as it is compared", "application/json"),
    error("encryption", stream!("inner_types = [\"application/*\"]"), (5, 16), "is no media type as it is compared", "application/json"),
    error("encryption", stream!("inner_types = [\"text/plain\"]\nrequired = false"), (6, 1), "looks at whole bodies to tell envelopes from plaintext", "remove one"),
    error("encryption", stream!("inner_types = [\"text/plain\"]\nmembers = [\"/a\"]"), (6, 1), "stand in JSON that is read whole", "remove one"),
    error("encryption", stream!(""), (4, 1), "without `inner_types` bodies are JSON", "application/octet-stream"),
    error("encryption", stream!("inner_types = [\"text/plain\", \"application/ld+json\"]"), (5, 30), "JSON is checked whole", "an entry without `stream`"),
    warning("encryption", stream!("inner_types = [\"text/plain\"]\nmax_response = \"1MiB\""), (6, 1), "with `stream` no response is", "remove it"),
];

#[test]
fn keyrings() {
    check_all(KEYRINGS);
}

#[test]
fn streams() {
    check_all(STREAMS);
}

/// What reads whole responses has no place on a route whose responses are not read.
#[test]
fn a_stream_gives_out_no_operation_tokens() {
    let entry = stream!("inner_types = [\"text/plain\"]");
    let route = "[[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nissues = \"p\"\nencryption = \"body\"\n\
                 [[routes]]\nname = \"b\"\npath = \"/b\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nrequires = \"p\"\nencryption = \"body\"\n\
                 [operation_tokens.p]\nkey = \"env:O\"\n";
    let (text, _) = with("encryption", entry);
    let (_, faults) = faults(&format!("{text}\n{route}"));
    let errors: Vec<&Fault> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    let [fault] = errors[..] else { panic!("{errors:?}") };
    assert!(
        fault.message.contains("`issues` reads whole responses") && fault.place.to_string().ends_with("issues"),
        "{fault:?}"
    );
}

/// What is revoked opens nothing, wherever it lies.
#[test]
fn a_revoked_key_of_kms_stands_in_no_tokens_way() {
    let ring = |state: &str| {
        format!(
            "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\n\
             decryption = {{ keyring = \"t\", algorithms = [\"RSA-OAEP-256\"] }}\n[keyrings.t]\nkind = \"rsa\"\n\
             versions = [{{ id = \"1\", key = \"env:T\", state = \"active\" }}, \
             {{ id = \"0\", key = \"kms:key:alias/a\", state = \"{state}\" }}]"
        )
    };
    let refused = |state: &str| {
        let (_, found) = faults(&with("jwt", &ring(state)).0);
        found.iter().any(|fault| fault.message.contains("do not stay in AWS KMS"))
    };
    assert!(refused("pending"));
    assert!(!refused("revoked"));
}
