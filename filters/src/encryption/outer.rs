//! What a request shows from outside: which profile it may be of, before anything in it is believed.

use gapura_config::model::{Preset, Profile};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{fields, profiles::strength};
use crate::crypto::{
    jwe::{Alg, Compact, Header},
    mac,
};

/// Carries the message of a request that has no body: `PROFILE=MESSAGE`.
pub(super) const X_GAPURA_ENVELOPE: HeaderName = HeaderName::from_static("x-gapura-envelope");

/// Authenticates an envelope of the founding format.
pub(super) const X_GAPURA_MAC: HeaderName = HeaderName::from_static(mac::HEADER);

/// The message in the header: the profile's name, and the rest. An error says what is wrong, for the log.
pub(super) fn header(headers: &HeaderMap) -> Result<Option<(&str, &str)>, &'static str> {
    let mut values = headers.get_all(&X_GAPURA_ENVELOPE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("X-Gapura-Envelope occurs more than once");
    }
    let text = value.to_str().map_err(|_| "X-Gapura-Envelope is not visible ASCII")?;
    text.split_once('=').map(Some).ok_or("X-Gapura-Envelope is not `PROFILE=MESSAGE`")
}

/// The content coding of RFC 8188.
pub(super) const AES128GCM: HeaderValue = HeaderValue::from_static("aes128gcm");

/// How a profile's messages stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    /// In a member of an object, `application/json`.
    Json,
    /// The body is the message.
    Hpke,
    /// A compact JWE, `application/jose`.
    Jose,
    /// The body is the message, its content type that of the content, and its coding says so.
    Coded,
}

pub(super) const fn carrier(profile: Profile, preset: Option<Preset>) -> Carrier {
    match (profile, preset) {
        (Profile::Hpke, _) => Carrier::Hpke,
        (Profile::Aes128Gcm, _) => Carrier::Coded,
        (Profile::Jwe, _) | (Profile::JweRsa, None) => Carrier::Jose,
        (Profile::CryptoJs, _) | (Profile::JweRsa, Some(_)) => Carrier::Json,
    }
}

impl Carrier {
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Hpke => "application/vnd.gapura.hpke",
            Self::Jose => "application/jose",
            // For people: what a client may write in its place stands in `inner_types`.
            Self::Coded => "application/json",
        }
    }

    /// A body with these fields may be one of its messages.
    pub(super) fn fits(self, headers: &HeaderMap) -> bool {
        match self {
            Self::Json | Self::Hpke | Self::Jose => {
                fields::is_media_type(headers, self.media_type()) && !fields::is_coded(headers)
            }
            Self::Coded => fields::is_coded_as(headers, &AES128GCM),
        }
    }
}

/// The profiles of an entry, and what of a request's head they take.
pub(super) struct Accepted {
    /// The strongest first.
    pub(super) profiles: Box<[Profile]>,
    preset: Option<Preset>,
    /// Media types that a body may have: for people, and for `Accept`.
    text: String,
    accept: HeaderValue,
}

impl Accepted {
    pub(super) fn new(listed: &[Profile], preset: Option<Preset>) -> Self {
        let mut profiles = listed.to_vec();
        profiles.sort_by_key(|profile| std::cmp::Reverse(strength(*profile)));
        profiles.dedup();
        let mut types: Vec<&str> = Vec::new();
        for profile in &profiles {
            let media_type = carrier(*profile, preset).media_type();
            if !types.contains(&media_type) {
                types.push(media_type);
            }
        }
        // Media types are ASCII.
        let accept = HeaderValue::try_from(types.join(", ")).unwrap_or(HeaderValue::from_static("application/json"));
        Self { profiles: profiles.into(), preset, text: types.join(" or "), accept }
    }

    fn named(&self, name: &str) -> Option<Profile> {
        self.profiles.iter().copied().find(|profile| profile.name() == name)
    }

    /// How a body with these fields stands, if it may be a message.
    pub(super) fn of_body(&self, headers: &HeaderMap) -> Option<Carrier> {
        let mut carriers = self.profiles.iter().map(|profile| carrier(*profile, self.preset));
        carriers.find(|carrier| carrier.fits(headers))
    }

    /// Which of the profiles that send a bare JWE a message is of: its own `alg` tells. Where only one is listed, or nothing is
    /// to be read in it, the strongest that is.
    pub(super) fn of_jwe(&self, message: &[u8]) -> Option<Profile> {
        let bare = |profile: &&Profile| carrier(**profile, self.preset) == Carrier::Jose;
        let mut profiles = self.profiles.iter().filter(bare);
        let (first, second) = (profiles.next()?, profiles.next());
        match second {
            Some(second) if is_of_rsa(message) => Some(*second),
            _ => Some(*first),
        }
    }

    /// The profile of a message in the header. `jwe` stands for all that send a bare one.
    pub(super) fn of_header(&self, name: &str, message: &[u8]) -> Option<Profile> {
        match name {
            "jwe" => self.of_jwe(message),
            _ => self.named(name).filter(|profile| profile.is_strong() && *profile != Profile::JweRsa),
        }
    }

    pub(super) fn media_types(&self) -> &str {
        &self.text
    }

    /// RFC 9110, section 15.5.16: of a 415, `Accept` says what would have been taken.
    pub(super) fn accept(&self) -> HeaderValue {
        self.accept.clone()
    }
}

fn is_of_rsa(message: &[u8]) -> bool {
    let header = Compact::split(message).and_then(|compact| compact.header());
    header.is_ok_and(|json| Header::read(&json).is_ok_and(|header| header.alg == Alg::RsaOaep256))
}
