//! Profile `jwe`: compact JWE whose header says what request it is for.
//!
//! A request is sealed to a key of the gateway's (ECDH-ES) or under the caller's session key (A256KW). Its header has exactly
//! the members below and no other; it is authenticated with the content, so that comparing `ctx` with the real request binds
//! the message to it. The response goes to the ephemeral key that the client sent along, or under the same session key.

use serde::Serialize;
use zeroize::Zeroize;

use super::{
    super::{
        context::{Bound, MessageId},
        response::How,
        strong::{Failure, Keys, Message},
    },
    Opened,
};
use crate::{
    contract::Now,
    crypto::{
        PublicJwk,
        jwe::{Agreed, Alg, Compact, Enc, Header, OpeningKey, Prepared, SealingKey, Unsealable},
    },
    json::{Json, Number, Object},
    keyring::{Key, SessionKey},
};

/// What a response is sealed with.
pub(in crate::encryption) struct Reply {
    key: ReplyKey,
    kid: String,
    bound: Bound,
    /// The id of the request's message.
    request: MessageId,
}

enum ReplyKey {
    /// With the client's ephemeral key. Agreed on before any upstream is contacted: with some keys nothing can be agreed on, and
    /// a response that cannot be sealed must not come to be.
    Agreed(Agreed),
    Session(SessionKey),
}

pub(in crate::encryption) fn open(
    message: &Message<'_>,
    bound: Bound,
    keys: &Keys,
    now: Now,
) -> Result<Opened, Failure> {
    let compact = Compact::split(&message.bytes).map_err(|why| Failure(why.0))?;
    let json = compact.header().map_err(|why| Failure(why.0))?;
    let header = Header::read(&json).map_err(|why| Failure(why.0))?;
    if header.enc != Enc::A256Gcm {
        return Err(Failure("its `enc` is not A256GCM"));
    }
    let kid = header.kid().ok_or(Failure("its header has no `kid`"))?.to_owned();
    let ctx = Ctx::read(&header)?;
    let session = match header.alg {
        Alg::A256Kw => {
            Some(keys.session(&kid, &bound, now).ok_or(Failure("its `kid` names no session key of this caller"))?)
        }
        Alg::EcdhEs => None,
        _ => return Err(Failure("its `alg` is neither ECDH-ES nor A256KW")),
    };
    let key = match &session {
        Some(session) => OpeningKey::Wrapping(session.bytes()),
        None => match keys.private(&kid, now) {
            Some(Key::Agreement(key)) => OpeningKey::Agreement(&key.private),
            _ => return Err(Failure("no key of this entry opens with its `kid`")),
        },
    };
    let opened = compact.open(&header, key);
    // Compared whatever came of the decryption: what differs is not told, nor how soon it did.
    let same = ctx.is_of(&bound);
    let mut plaintext = opened.map_err(|_| Failure("it does not open: another key, or changed on the way"))?;
    if !same {
        // As what does not open is wiped, too.
        plaintext.zeroize();
        return Err(Failure("its `ctx` is of another request"));
    }
    let key = match (session, &ctx.reply_to) {
        (None, Some(public)) => Agreed::with(public, Enc::A256Gcm)
            .map(ReplyKey::Agreed)
            .map_err(|_| Failure("its `rpk` is no key that anything can be agreed on with"))?,
        (Some(session), None) => ReplyKey::Session(session),
        _ => return Err(Failure("its `rpk` does not go with its `alg`")),
    };
    let content_type = header.text("cty").unwrap_or_default().to_owned();
    let (iat, id) = (ctx.iat, ctx.id);
    Ok(Opened {
        plaintext: plaintext.into(),
        content_type,
        iat: Some(iat),
        unique: id.0.to_vec(),
        sealing: How::Jwe(Reply { key, kid, bound, request: id }),
    })
}

/// `ctx` of a request, of the right form.
struct Ctx<'h> {
    texts: [&'h str; 7],
    iat: u64,
    id: MessageId,
    reply_to: Option<PublicJwk>,
}

/// Those that are compared, in the order of [`Ctx::texts`].
const TEXTS: [&str; 7] = ["method", "authority", "path", "query", "sub", "tid", "part"];

impl<'h> Ctx<'h> {
    fn read(header: &'h Header<'_>) -> Result<Self, Failure> {
        only(header.members(), &["alg", "enc", "kid", "cty", "epk", "apu", "apv", "ctx"])?;
        let ctx = header.members().get("ctx").and_then(Json::as_object).ok_or(Failure("its header has no `ctx`"))?;
        only(ctx, &["v", "dir", "method", "authority", "path", "query", "sub", "tid", "part", "iat", "id", "rpk"])?;
        if ctx.get("v").and_then(Json::as_number) != Some(Number::Unsigned(1)) {
            return Err(Failure("its `ctx` is of another version"));
        }
        if ctx.get("dir").and_then(Json::as_str) != Some("request") {
            return Err(Failure("its `ctx` is not of a request"));
        }
        let mut texts = [""; 7];
        for (text, name) in texts.iter_mut().zip(TEXTS) {
            *text = ctx.get(name).and_then(Json::as_str).ok_or(Failure("a member of its `ctx` is no string"))?;
        }
        let Some(Number::Unsigned(iat)) = ctx.get("iat").and_then(Json::as_number) else {
            return Err(Failure("the `iat` of its `ctx` is no whole number"));
        };
        let id = ctx.get("id").and_then(Json::as_str).and_then(MessageId::parse);
        let reply_to = match ctx.get("rpk") {
            None => None,
            Some(Json::Object(key)) => Some(PublicJwk::of_curve(key).ok_or(NO_RPK)?),
            Some(_) => return Err(NO_RPK),
        };
        Ok(Self { texts, iat, id: id.ok_or(Failure("the `id` of its `ctx` is not 16 bytes"))?, reply_to })
    }

    /// Every member is compared before any is judged.
    fn is_of(&self, bound: &Bound) -> bool {
        let real = [
            bound.method(),
            bound.authority(),
            bound.path(),
            bound.query(),
            bound.subject(),
            bound.token_id(),
            &bound.part,
        ];
        self.texts.iter().zip(real).fold(true, |same, (said, real)| same & (*said == real))
    }
}

const NO_RPK: Failure = Failure("its `rpk` is no public key on X25519 or P-256");

fn only(object: &Object<'_>, known: &[&str]) -> Result<(), Failure> {
    let strange = object.iter().any(|(name, _)| !known.contains(&name));
    if strange { Err(Failure("its header has a member that it should not have")) } else { Ok(()) }
}

/// The header of a response, besides `alg`, `enc` and `epk`.
#[derive(Serialize)]
struct Members<'r> {
    kid: &'r str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cty: &'r str,
    ctx: ReplyCtx<'r>,
}

#[derive(Serialize)]
struct ReplyCtx<'r> {
    v: u8,
    dir: &'r str,
    method: &'r str,
    authority: &'r str,
    path: &'r str,
    query: &'r str,
    sub: &'r str,
    tid: &'r str,
    iat: u64,
    id: String,
    part: &'r str,
    status: u16,
    /// "In reply to".
    irt: String,
}

impl Reply {
    /// The member that is sealed next.
    pub(in crate::encryption) fn set_part(&mut self, pointer: &str) {
        pointer.clone_into(&mut self.bound.part);
    }

    /// A response up to its content.
    pub(in crate::encryption) fn prepare(
        &self,
        content_type: &str,
        status: u16,
        now: Now,
    ) -> Result<Prepared, Unsealable> {
        let bound = &self.bound;
        let ctx = ReplyCtx {
            v: 1,
            dir: "response",
            method: bound.method(),
            authority: bound.authority(),
            path: bound.path(),
            query: bound.query(),
            sub: bound.subject(),
            tid: bound.token_id(),
            iat: now.unix_ms,
            id: MessageId::fresh().text(),
            part: &bound.part,
            status,
            irt: self.request.text(),
        };
        let key = match &self.key {
            ReplyKey::Agreed(agreed) => SealingKey::Agreed(agreed),
            ReplyKey::Session(key) => SealingKey::Wrapping(key.bytes()),
        };
        Prepared::new(Enc::A256Gcm, key, &Members { kid: &self.kid, cty: content_type, ctx })
    }
}
