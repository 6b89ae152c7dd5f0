//! Bodies that are clear but for some members: each listed one holds a message of its own, bound to its place.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gapura_config::{
    fault::{Fault, Place},
    model::Profile,
};
use http::{HeaderValue, header, request, response};

use super::{
    Encryption, caller,
    context::Bound,
    envelope::Reading,
    fields,
    members::{self, Pointer},
    migration::PLAINTEXT,
    outer,
    profiles::cryptojs::ResponseLabels,
    response::{Due, How, Plain, Sealed, Sealing, lost},
    strong::Message,
};
use crate::{
    contract::{Code, Exchange, Principal, Refusal},
    crypto::{self, aes128gcm, hpke, jwe::Compact},
};

const JSON: &str = "application/json";

/// The pointers of `members`, none within another: a message within a message could not be put back.
pub(super) fn pointers(written: &[String], place: &Place) -> Result<Vec<Pointer>, Vec<Fault>> {
    let list = place.key("members");
    let mut pointers: Vec<Pointer> = Vec::new();
    let mut faults = Vec::new();
    for (at, text) in written.iter().enumerate() {
        match Pointer::parse(text) {
            Err(why) => faults.push(Fault::at(list.index(at), format!("{text:?} is no JSON pointer")).help(why)),
            Ok(pointer) => {
                if let Some(other) = pointers.iter().find(|other| other.holds(&pointer) || pointer.holds(other)) {
                    let message = format!("`{}` and `{}` stand within each other", other.as_str(), pointer.as_str());
                    faults.push(Fault::at(list.index(at), message).help("list one of them"));
                }
                pointers.push(pointer);
            }
        }
    }
    if faults.is_empty() { Ok(pointers) } else { Err(faults) }
}

impl Encryption {
    /// Puts the content of each listed member into its place.
    pub(super) async fn open_members(
        &self,
        head: &mut request::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
        principal: &Arc<Principal>,
    ) -> Result<(), Refusal> {
        self.refuse_no_json(head)?;
        if !crypto::is_json(body) {
            return Err(self.not_envelope("the body is no JSON"));
        }
        let places = members::find(body, &self.members);
        let places = places.map_err(|_| self.not_envelope("a member stands twice"))?;
        let (mut values, mut how) = (Vec::new(), None);
        for (pointer, place) in self.members.iter().zip(places) {
            let Some(place) = place else { continue };
            let opened = self.open_member(pointer, &body[place.clone()], head, exchange, principal).await?;
            let Some((plaintext, sealing)) = opened else { continue };
            values.push((place, plaintext));
            // The response is sealed as the first of them was: of the strongest, so that nothing weak beside it decides.
            if how.as_ref().is_none_or(|how: &How| sealing.strength() > how.strength()) {
                how = Some(sealing);
            }
        }
        let sealing = match how {
            Some(how) => Sealing::due(how, head),
            None => self.sealing_without_member(head, exchange, principal).await?,
        };
        let values: Vec<_> = values.iter().map(|(place, value)| (place.clone(), Cow::Borrowed(&value[..]))).collect();
        *body = members::replace(body, values).into();
        exchange.sealing = Some(sealing);
        fields::clean_request(&mut head.headers);
        Ok(())
    }

    /// What the head alone tells of a body with members.
    pub(super) fn refuse_no_json(&self, head: &request::Parts) -> Result<(), Refusal> {
        if !fields::is_coded(&head.headers) && fields::is_media_type(&head.headers, JSON) {
            return Ok(());
        }
        self.results.not_envelope.inc();
        let detail = "The body must be application/json, without a content encoding.";
        let refusal = Refusal::new(Code::ContentTypeUnsupported, detail);
        Err(refusal.header(header::ACCEPT, HeaderValue::from_static(JSON)))
    }

    /// The value of a member, and how it was sealed. None: it may stand in clear, and does.
    async fn open_member(
        &self,
        pointer: &Pointer,
        value: &[u8],
        head: &request::Parts,
        exchange: &Exchange,
        principal: &Arc<Principal>,
    ) -> Result<Option<(Bytes, How)>, Refusal> {
        if let (Some(cryptojs), b'{') = (&self.cryptojs, value[0]) {
            match cryptojs.read(value) {
                Reading::Envelope(envelope) => {
                    let opened = self.open_cryptojs(cryptojs, envelope, value, head, exchange, principal).await?;
                    return Ok(Some((opened.0, How::CryptoJs(opened.1))));
                }
                Reading::Broken(why) => return Err(self.not_envelope(why)),
                Reading::Other(_) => {}
            }
        }
        let Some((profile, text)) = self.member_message(value) else {
            if self.required {
                return Err(self.not_envelope("a listed member holds no envelope of an accepted profile"));
            }
            self.refuse_downgrade(principal, PLAINTEXT).await?;
            return Ok(None);
        };
        let mut bound = Bound::new(head, exchange, Arc::clone(principal));
        pointer.as_str().clone_into(&mut bound.part);
        let message =
            Message { bytes: Bytes::copy_from_slice(text), content_type: JSON, encoded: true, in_header: false };
        let opened = self.open_strong(profile, message, bound, exchange.now).await?;
        if opened.plaintext.is_empty() || !crypto::is_json(&opened.plaintext) {
            return Err(self.failed("the content of a member is no JSON"));
        }
        Ok(Some((opened.plaintext, opened.sealing)))
    }

    /// Which profile a member's text may be of. No message has a character that JSON escapes.
    fn member_message<'v>(&self, value: &'v [u8]) -> Option<(Profile, &'v [u8])> {
        let text = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let listed = |profile| self.accepted.profiles.contains(&profile);
        // By its outer form: what has none is content in clear.
        if text.contains(&b'.') {
            let header = Compact::split(text).and_then(|compact| compact.header());
            let formed = header.is_ok_and(|json| json.starts_with(b"{"));
            return (formed && listed(Profile::Jwe)).then_some((Profile::Jwe, text));
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        if listed(Profile::Hpke) && hpke::Header::read(&bytes).is_ok() {
            return Some((Profile::Hpke, text));
        }
        let header = aes128gcm::Header::read(&bytes).ok().flatten();
        let named = header.is_some_and(|header| aes128gcm::KeyId::parse(header.key_id).is_some());
        (named && listed(Profile::Aes128Gcm)).then_some((Profile::Aes128Gcm, text))
    }

    /// Of a body in which no listed member stands.
    async fn sealing_without_member(
        &self,
        head: &mut request::Parts,
        exchange: &mut Exchange,
        principal: &Arc<Principal>,
    ) -> Result<Sealing, Refusal> {
        let header = outer::header(&head.headers).map_err(|why| self.not_envelope(why))?;
        let Some((name, message)) = header else {
            self.without_message(head, exchange, principal).await?;
            return exchange.sealing.take().ok_or_else(lost);
        };
        let profile = self.accepted.of_header(name, message.as_bytes());
        let profile = profile.ok_or_else(|| self.not_envelope("X-Gapura-Envelope names no profile of this entry"))?;
        let message = Message::of_header(message);
        let bound = Bound::new(head, exchange, Arc::clone(principal));
        let opened = self.open_strong(profile, message, bound, exchange.now).await?;
        Ok(Sealing::due(opened.sealing, head))
    }

    /// Seals each listed member of a JSON response; all other bytes stay as they are.
    pub(super) fn seal_members(
        &self,
        head: &mut response::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
    ) -> Result<(), Refusal> {
        let Some(mut sealing) = exchange.sealing.take() else {
            return Err(Refusal::new(Code::Internal, "The request cannot be served.")
                .reason("a response on an encrypted route without a decision about its sealing"));
        };
        let outcome = match &mut sealing.0 {
            Some(due) => self.seal_members_of(due, head, body, exchange),
            None => Ok(()),
        };
        exchange.sealing = Some(sealing);
        outcome
    }

    fn seal_members_of(
        &self,
        due: &mut Due,
        head: &mut response::Parts,
        body: &mut Bytes,
        exchange: &Exchange,
    ) -> Result<(), Refusal> {
        fields::clean_response(&mut head.headers);
        // Clients read as JSON what looks like it, whatever its type says. Of anything else no member can be told.
        if body.is_empty() || !(fields::is_json(&head.headers) || crypto::is_json(body)) {
            return Ok(());
        }
        let unfit =
            |why| Refusal::new(Code::UpstreamUnavailable, "The response of the service cannot be sealed.").reason(why);
        if !crypto::is_json(body) {
            return Err(unfit("it says that it is JSON, and is not"));
        }
        let places = members::find(body, &self.members).map_err(|_| unfit("a listed member stands twice"))?;
        let mut values = Vec::new();
        for (pointer, place) in self.members.iter().zip(places) {
            let Some(place) = place else { continue };
            due.how.set_part(pointer.as_str());
            let sealed = self.seal_member(&due.how, &body[place.clone()], head, exchange)?;
            values.push((place, Cow::Owned(sealed)));
        }
        *body = members::replace(body, values).into();
        Ok(())
    }

    fn seal_member(
        &self,
        how: &How,
        value: &[u8],
        head: &response::Parts,
        exchange: &Exchange,
    ) -> Result<Vec<u8>, Refusal> {
        if let How::CryptoJs(key) = how {
            let cryptojs = self.cryptojs.as_ref().ok_or_else(lost)?;
            let principal = caller(exchange)?;
            let labels = ResponseLabels { principal: &principal, now: exchange.now, success: true };
            return Ok(cryptojs.seal_member(key, value, labels));
        }
        // What a message says of itself does not concern the head of the body around it.
        let mut own = response::Response::new(()).into_parts().0;
        own.status = head.status;
        own.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        let Sealed::Body(message) = self.seal_as(how, Plain::Body(value), &mut own, exchange)? else {
            return Err(lost());
        };
        let text = match how {
            How::Jwe(_) => String::from_utf8_lossy(&message).into_owned(),
            _ => URL_SAFE_NO_PAD.encode(&message),
        };
        Ok(format!("\"{text}\"").into_bytes())
    }
}
