//! `gapura encrypt --profile hpke` and the like: the client's side of the strong profiles. What is needed to open the response is
//! kept in a file of the sender's own.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::ValueEnum;
use gapura_filters::{
    crypto::{PublicJwk, hpke::Aead},
    encryption::{
        members::Pointer,
        sender::{Facts, Key, Sent},
    },
    json::parse_object,
    target::{canonical_path, check_query},
};
use http::{Method, uri::Authority};
use serde_json::Value;

use super::seal::Reference;

#[derive(Debug, clap::Args)]
pub(super) struct StrongOptions {
    /// Another profile than `cryptojs`.
    #[arg(long, value_enum, conflicts_with_all = ["master_key", "passphrase"])]
    pub(super) profile: Option<Profile>,
    /// The URL that the message is for: https://HOST/PATH?QUERY.
    #[arg(long, requires = "profile")]
    url: Option<String>,
    /// The method that the message is for.
    #[arg(long, requires = "profile", default_value = "POST")]
    method: String,
    /// The caller's user id, as the gateway knows it.
    #[arg(long, value_name = "ID", requires = "profile")]
    subject: Option<String>,
    /// The `jti` of the caller's token.
    #[arg(long, value_name = "JTI", requires = "profile", default_value = "")]
    token_id: String,
    /// The key: for hpke and jwe one of the gateway's public keys, else the name of the session key.
    #[arg(long, requires = "profile")]
    pub(super) kid: Option<String>,
    /// What GET /.well-known/gapura/keys answered.
    #[arg(long, value_name = "FILE", requires = "profile")]
    keys: Option<PathBuf>,
    /// The `session_key` that POST /.well-known/gapura/session-key answered: env:NAME or file:/path.
    #[arg(long, value_name = "REF", requires = "profile")]
    pub(super) session_key: Option<Reference>,
    /// What the content is; of a response of aes128gcm its `Content-Type`.
    #[arg(long, value_name = "TYPE", requires = "profile", default_value = "application/json")]
    pub(super) content_type: String,
    /// The JSON pointer of the member that the message stands in; the message is then text.
    #[arg(long, value_name = "POINTER", requires = "profile", default_value = "")]
    part: String,
    /// The message as text for `X-Gapura-Envelope`, without content.
    #[arg(long, requires = "profile")]
    header: bool,
    /// Where `encrypt` keeps what opens the response, and where `decrypt` finds it. It holds a key.
    #[arg(long, value_name = "FILE", requires = "profile")]
    state: Option<PathBuf>,
    /// Of the response that is opened.
    #[arg(long, requires = "profile", default_value = "200")]
    status: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Profile {
    Hpke,
    Aes128gcm,
    Jwe,
    JweRsa,
}

impl Profile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hpke => "hpke",
            Self::Aes128gcm => "aes128gcm",
            Self::Jwe => "jwe",
            Self::JweRsa => "jwe-rsa",
        }
    }
}

impl StrongOptions {
    /// An option that `--profile jwe` has no use for: there `--context` says all of the request.
    pub(super) fn not_of_jwe(&self) -> Option<&'static str> {
        let given = [
            ("--url", self.url.is_some()),
            ("--subject", self.subject.is_some()),
            ("--token-id", !self.token_id.is_empty()),
            ("--keys", self.keys.is_some()),
            ("--part", !self.part.is_empty()),
            ("--header", self.header),
            ("--state", self.state.is_some()),
        ];
        given.iter().find(|(_, given)| *given).map(|(name, _)| *name)
    }
}

pub(super) fn encrypt(
    profile: Profile,
    options: &StrongOptions,
    plaintext: &[u8],
    now: u64,
) -> Result<Vec<u8>, String> {
    let facts = facts(options)?;
    let kid = options.kid.as_deref().ok_or("--kid names the key")?;
    usable(profile, kid, options, plaintext)?;
    if profile == Profile::Aes128gcm && has_ended(kid, now) {
        // No fault: of the two clocks it may be this one that is wrong.
        let _ = writeln!(io::stderr(), "gapura: by this machine's clock the session key of --kid has ended");
    }
    let (plaintext, content_type) =
        if options.header { (&[][..], "") } else { (plaintext, options.content_type.as_str()) };
    let (message, sent) = match profile {
        Profile::Hpke => {
            let key = public_key(options.keys.as_deref().ok_or("--keys names the file with the public keys")?, kid)?;
            facts.seal(plaintext, content_type, &Key::Public { kid, key: &key, aead: Aead::Aes256Gcm }, now)
        }
        Profile::Aes128gcm => {
            let secret = options.session_key.as_ref().ok_or("--session-key says where the session key is")?.read()?;
            let key = URL_SAFE_NO_PAD.decode(secret.bytes()).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
            let key = key.ok_or("the session key is not 32 bytes in base64url")?;
            facts.seal(plaintext, content_type, &Key::Session { kid, key: &key }, now)
        }
        Profile::Jwe | Profile::JweRsa => None,
    }
    .ok_or("nothing can be sealed for this request: a method, a host and a path of HTTP are needed")?;
    if let Some(path) = &options.state {
        keep(path, &sent)?;
    }
    Ok(match (options.header, options.part.is_empty()) {
        (true, _) => format!("{}={}\n", profile.name(), URL_SAFE_NO_PAD.encode(message)).into_bytes(),
        (false, false) => format!("{}\n", URL_SAFE_NO_PAD.encode(message)).into_bytes(),
        (false, true) => message,
    })
}

pub(super) fn decrypt(profile: Profile, options: &StrongOptions, message: Vec<u8>) -> Result<Vec<u8>, String> {
    let unused = [("--url", options.url.is_some()), ("--session-key", options.session_key.is_some())];
    if let Some((name, _)) = unused.iter().find(|(_, given)| *given) {
        return Err(format!("{name} is for `gapura encrypt`: what opens the response is in the file of --state"));
    }
    let path = options.state.as_deref().ok_or("--state names the file that `gapura encrypt` kept")?;
    let text = std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let sent = Sent::from_json(&text).ok_or_else(|| format!("{}: not written by `gapura encrypt`", path.display()))?;
    if sent.profile().name() != profile.name() {
        return Err(format!("the request was of the profile {}", sent.profile().name()));
    }
    let message = if options.part.is_empty() {
        message
    } else {
        URL_SAFE_NO_PAD.decode(message.trim_ascii()).map_err(|_| "the message is not base64url")?
    };
    let opened = sent.open(message, &options.content_type, options.status);
    let failed = "the response does not open: another request, status or content type, or changed on the way";
    opened.map(|received| received.plaintext).map_err(|_| failed.to_owned())
}

/// What would only make a message that no gateway opens.
fn usable(profile: Profile, kid: &str, options: &StrongOptions, plaintext: &[u8]) -> Result<(), String> {
    let (hpke, header, part) = (profile == Profile::Hpke, options.header, &options.part);
    let parts = if hpke { 2 } else { 3 };
    let unfit = [
        (
            hpke && options.session_key.is_some(),
            "--session-key belongs to aes128gcm and jwe: hpke seals to one of --keys",
        ),
        (!hpke && options.keys.is_some(), "--keys belongs to hpke: aes128gcm seals under --session-key"),
        (
            header && !plaintext.trim_ascii().is_empty(),
            "--header makes the message of a request without a body: standard input must be empty",
        ),
        (hpke && !is_kid(kid, parts), "--kid is NAME.id for hpke, as the file of --keys has it"),
        (!hpke && !is_kid(kid, parts), "--kid is NAME.id.EXPIRY for aes128gcm, as it came with the session key"),
        (header && !part.is_empty(), "--header and --part do not go together: a member's message stands in the body"),
        (!part.is_empty() && Pointer::parse(part).is_err(), "--part is no JSON pointer: write /card/number"),
        (
            !header && plaintext.is_empty(),
            "standard input is empty: --header makes the message of a request without a body",
        ),
        (!header && !is_media_type(&options.content_type), "--content-type is no TYPE/SUBTYPE of at most 255 bytes"),
    ];
    match unfit.into_iter().find(|(unfit, _)| *unfit) {
        Some((_, why)) => Err(why.to_owned()),
        None => Ok(()),
    }
}

/// As the gateway names its keys: two parts, of a session key a third, its end in seconds since 1970.
pub(super) fn is_kid(kid: &str, parts: usize) -> bool {
    let part = |text: &str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let end = |text: &str| text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    kid.split('.').count() == parts && kid.split('.').all(part) && kid.split('.').skip(2).all(end)
}

/// Of a session key. `now` is in milliseconds.
fn has_ended(kid: &str, now: u64) -> bool {
    kid.rsplit('.').next().and_then(|end| end.parse::<u64>().ok()).is_some_and(|end| end <= now / 1000)
}

pub(super) fn is_media_type(text: &str) -> bool {
    let sound = text.len() <= 255 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    sound && text.split_once('/').is_some_and(|(kind, subtype)| !kind.is_empty() && !subtype.is_empty())
}

fn facts(options: &StrongOptions) -> Result<Facts, String> {
    let url = options.url.as_deref().ok_or("--url says what the message is for")?;
    let (secure, rest) = match url.split_once("://") {
        Some(("https", rest)) => (true, rest),
        Some(("http", rest)) => (false, rest),
        _ => return Err("--url begins with https:// or http://".into()),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    if !is_authority(authority) {
        return Err("--url names no host: write https://HOST/PATH, the host in ASCII".into());
    }
    let who = [("--subject", options.subject.as_deref()), ("--token-id", Some(&*options.token_id))];
    if let Some((name, _)) = who.iter().find(|(_, text)| text.is_some_and(|text| text.chars().any(char::is_control))) {
        return Err(format!("{name} holds a control character, as no credential does"));
    }
    if options.subject.as_deref() == Some("") {
        return Err("--subject is empty: it is the caller's user id".into());
    }
    let target = target.split_once('#').map_or(target, |(sent, _)| sent);
    let method = &options.method;
    if method.parse::<Method>().is_err() || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(format!("--method `{}` is no method: they are written in upper case", method.escape_debug()));
    }
    Ok(Facts {
        method: options.method.clone(),
        secure,
        authority: authority.to_owned(),
        target: canonical(target)?,
        user_id: options.subject.clone().ok_or("--subject is the caller's user id")?,
        token_id: options.token_id.clone(),
        part: options.part.clone(),
    })
}

/// A name or an address of HTTP, and a port that there is.
fn is_authority(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let port = authority.as_str().rsplit_once(']').map_or(text, |(_, rest)| rest).split_once(':').map(|(_, port)| port);
    !authority.host().is_empty()
        && !text.contains('@')
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// As the gateway has it in the end: that is what messages are bound to.
fn canonical(target: &str) -> Result<String, String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = if path.is_empty() { "/" } else { path };
    let path = canonical_path(path).map_err(|why| format!("--url: {}", why.0))?;
    query.map_or(Ok(()), check_query).map_err(|why| format!("--url: {}", why.0))?;
    Ok(query.map_or_else(|| path.to_string(), |query| format!("{path}?{query}")))
}

fn public_key(path: &Path, kid: &str) -> Result<PublicJwk, String> {
    let fault = |why: &str| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|why| fault(&why.to_string()))?;
    let set: Value = serde_json::from_str(&text).map_err(|_| fault("no JSON"))?;
    let keys = set["keys"].as_array().ok_or_else(|| fault("no key set: it has no `keys`"))?;
    let key = keys.iter().find(|key| key["kid"] == kid).ok_or_else(|| fault("no key of this `kid`"))?;
    // The members of the key itself: a set says more of each.
    let own: serde_json::Map<String, Value> = ["kty", "crv", "x", "y"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), key.get(name)?.clone())))
        .collect();
    let own = Value::from(own).to_string();
    let key = parse_object(own.as_bytes()).ok().and_then(|key| PublicJwk::of_curve(&key));
    key.ok_or_else(|| fault("the key is not of X25519 or P-256"))
}

/// For its owner only, from its first moment.
fn keep(path: &Path, sent: &Sent) -> Result<(), String> {
    let write = || {
        // Another file in the place of one that is there: that one may be open to others, or a link to somewhere else.
        match std::fs::remove_file(path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(sent.to_json().as_bytes())
    };
    write().map_err(|why| format!("{}: {why}", path.display()))
}
