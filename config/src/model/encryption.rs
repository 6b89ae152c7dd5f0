//! `[encryption.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::KeyKind;
use crate::{
    secret::SecretRef,
    units::{Period, PeriodOrOff, Size},
};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// The wire format of an envelope; or a list of formats, for clients that move from one to another.
    pub profile: Profiles,
    /// `cryptojs`: what all passphrases are derived from.
    pub master_key: Option<SecretRef>,
    /// `cryptojs`, instead of `master_key`: the NAME of a `[keyrings.NAME]` of kind `secret`, whose versions are master keys. An
    /// envelope may be of each that opens.
    pub master_keys: Option<String>,
    /// The keys that envelopes are sealed to: names of `[keyrings.NAME]`, at most one of each kind.
    #[serde(default)]
    pub keyrings: Vec<String>,
    /// `jwe-rsa`: the wrapper of a scheme, `visa-mle` or `mastercard`. Absent: the bare JWE.
    pub preset: Option<Preset>,
    /// `jwe-rsa`: the partner's certificate or public key in PEM, which responses are sealed to.
    pub response_key: Option<SecretRef>,
    /// `jwe-rsa`: the `kid` that responses carry.
    pub response_kid: Option<String>,
    /// How long a session key may be used that a keyring of kind `secret` gives. At most 24h.
    #[serde(default = "session_key_lifetime")]
    pub session_key_lifetime: Period,
    /// What a passphrase is made of.
    #[serde(default)]
    pub key_derivation: KeyDerivation,
    /// Accepted distance of an envelope's `timestamp` from now, both ways. `off` only for migrations.
    #[serde(default = "max_age")]
    pub max_age: PeriodOrOff,
    /// How far ahead of this clock an envelope may be dated. `cryptojs` takes `max_age` both ways instead. At most 5m.
    #[serde(default = "clock_skew")]
    pub clock_skew: Period,
    /// What an envelope may hold, told by its inner content type. `cryptojs` holds JSON and nothing else.
    #[serde(default = "inner_types")]
    #[schemars(length(min = 1))]
    pub inner_types: Vec<String>,
    /// A plaintext body is refused. `false`: a body with the data field is an envelope, any other passes as it is, and the
    /// response is sealed only when the request was, or had no body.
    #[serde(default = "super::yes")]
    pub required: bool,
    /// What happens to an envelope that comes a second time.
    #[serde(default)]
    pub replay: Replay,
    /// What the envelope of a response stands in.
    #[serde(default)]
    pub response_wrap: ResponseWrap,
    /// The member names of an envelope.
    #[serde(default)]
    pub fields: EnvelopeFields,
    /// The largest upstream response that is sealed; a larger one is answered with 502.
    #[serde(default = "max_response")]
    pub max_response: Size,
    /// `cryptojs`: the header `X-Gapura-Mac`, which binds an envelope to its request.
    #[serde(default)]
    pub mac: MacMode,
    /// `cryptojs` is accepted to the end of this day (UTC): 2027-06-30.
    #[schemars(with = "Option<String>", extend("format" = "date"))]
    pub accept_legacy_until: Option<toml_datetime::Datetime>,
    /// Where several profiles are listed: who has sent an envelope of a stronger one is refused with a weaker one.
    #[serde(default = "super::yes")]
    pub downgrade_lock: bool,
    /// `aes128gcm`: bodies pass record by record, in bounded memory, and not whole. What has passed is authentic; that it was all is
    /// known only at its end.
    #[serde(default)]
    pub stream: bool,
    /// JSON pointers of members that hold envelopes, in bodies that are clear otherwise. Absent: the whole body is one.
    #[serde(default)]
    pub members: Vec<String>,
}

fn max_age() -> PeriodOrOff {
    PeriodOrOff::For(std::time::Duration::from_secs(300))
}
fn session_key_lifetime() -> Period {
    Period::secs(15 * 60)
}
fn clock_skew() -> Period {
    Period::secs(60)
}
fn inner_types() -> Vec<String> {
    vec!["application/json".into()]
}
fn max_response() -> Size {
    Size::mib(8)
}
/// One wire format, or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Profiles {
    One(Profile),
    Several(#[schemars(length(min = 1))] Vec<Profile>),
}

/// The wire format of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// AES-256-CBC with OpenSSL's `Salted__` prefix, as `CryptoJS.AES.encrypt(text, passphrase)` writes it.
    #[serde(rename = "cryptojs")]
    CryptoJs,
    /// HPKE in base mode (RFC 9180) to a key of a keyring; the response under a key that the request's context exports.
    Hpke,
    /// RFC 8188 under a session key: for large bodies.
    #[serde(rename = "aes128gcm")]
    Aes128Gcm,
    /// Compact JWE, ECDH-ES or A256KW with A256GCM, bound to its request.
    Jwe,
    /// Compact JWE, RSA-OAEP-256, as card schemes and banks prescribe.
    JweRsa,
}

/// A scheme's own wrapper of `jwe-rsa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Visa Message Level Encryption: `{"encData": "…"}`.
    VisaMle,
    /// Mastercard payload encryption: `{"encryptedData": "…"}`.
    Mastercard,
}

/// Whether envelopes of `cryptojs` carry a MAC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MacMode {
    /// The header is not looked at.
    #[default]
    Off,
    /// It is verified where it is sent.
    Optional,
    /// An envelope without it is refused.
    Required,
}

/// What a passphrase is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyDerivation {
    /// `userId_email_masterKey`
    #[default]
    User,
    /// `userId_email_masterKey_timestamp`
    UserTimestamp,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    #[default]
    Reject,
    /// Only for migrations.
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseWrap {
    /// `{"success": <status below 400>, "data": <envelope>}`
    #[default]
    Success,
    /// The bare envelope.
    None,
}

/// The member names of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EnvelopeFields {
    /// The member with the ciphertext.
    pub data: String,
    /// The member with the hash of the passphrase.
    pub key_hash: String,
    /// The member with the milliseconds since 1970.
    pub timestamp: String,
    /// The member with the user id.
    pub user_id: String,
}

impl Default for EnvelopeFields {
    fn default() -> Self {
        Self {
            data: "encryptedData".into(),
            key_hash: "keyHash".into(),
            timestamp: "timestamp".into(),
            user_id: "userId".into(),
        }
    }
}

impl Profiles {
    /// In the order of the file.
    pub fn listed(&self) -> &[Profile] {
        match self {
            Self::One(profile) => std::slice::from_ref(profile),
            Self::Several(profiles) => profiles,
        }
    }

    pub fn contains(&self, profile: Profile) -> bool {
        self.listed().contains(&profile)
    }
}

impl Preset {
    /// As the file has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VisaMle => "visa-mle",
            Self::Mastercard => "mastercard",
        }
    }
}

impl Profile {
    /// As the file, metrics and the header `X-Gapura-Envelope` have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CryptoJs => "cryptojs",
            Self::Hpke => "hpke",
            Self::Aes128Gcm => "aes128gcm",
            Self::Jwe => "jwe",
            Self::JweRsa => "jwe-rsa",
        }
    }

    /// The kinds of keyrings that it opens with; it needs one of them. None: it has no keyring.
    pub const fn kinds(self) -> &'static [KeyKind] {
        match self {
            Self::CryptoJs => &[],
            Self::Hpke => &[KeyKind::X25519, KeyKind::P256],
            Self::Aes128Gcm => &[KeyKind::Secret],
            Self::Jwe => &[KeyKind::X25519, KeyKind::P256, KeyKind::Secret],
            Self::JweRsa => &[KeyKind::Rsa],
        }
    }

    /// Its messages cannot be changed on the way unnoticed.
    pub const fn is_strong(self) -> bool {
        match self {
            Self::CryptoJs => false,
            Self::Hpke | Self::Aes128Gcm | Self::Jwe | Self::JweRsa => true,
        }
    }
}
