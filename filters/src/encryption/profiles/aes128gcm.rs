//! Profile `aes128gcm`: see [`crate::crypto::aes128gcm`] for the format. The context goes into the key, so that a message
//! under another context is a message under another key.

use gapura_config::model::Profile;
use http::StatusCode;
use zeroize::Zeroizing;

use super::{
    super::{
        Encryption,
        context::{Answer, Bound, Label, MessageId},
        response::{How, Plain, Sealed},
        strong::{Failure, Message},
    },
    Opened,
};
use crate::{
    contract::Now,
    crypto::aes128gcm::{self, Header, KeyId, RECORD, Writer},
    keyring::SessionKey,
};

/// What the response to a request takes.
pub(in crate::encryption) struct Reply {
    key: SessionKey,
    bound: Bound,
    kid: String,
    request: MessageId,
}

impl Encryption {
    pub(in crate::encryption) fn open_aes128gcm(
        &self,
        message: Message<'_>,
        bound: Bound,
        now: Now,
    ) -> Result<Opened, Failure> {
        let content_type = message.content_type.to_owned();
        let mut bytes = message.binary()?;
        let header = Header::read(&bytes).ok().flatten().ok_or(Failure("the header of the message cannot be read"))?;
        let (input_key, iat, reply) = self.keyed(&header, &content_type, bound, now)?;
        let (start, salt, record_size) = (header.end(), header.salt, header.record_size);
        let header = Header { salt, record_size, key_id: "" };
        let opened = aes128gcm::open_in_place(&mut bytes[start..], &header, &input_key[..]);
        let len = opened.map_err(|_| Failure("the message is not for this key and request"))?;
        Ok(Opened {
            plaintext: bytes.freeze().slice(start..start + len),
            content_type: if len == 0 { String::new() } else { content_type },
            iat: Some(iat),
            unique: reply.request.0.to_vec(),
            sealing: How::Aes128Gcm(reply),
        })
    }

    /// What the header of a message names: the key of its records, when it was made, and what its response takes.
    pub(in crate::encryption) fn keyed(
        &self,
        header: &Header<'_>,
        content_type: &str,
        bound: Bound,
        now: Now,
    ) -> Result<(Zeroizing<[u8; 32]>, u64, Reply), Failure> {
        let named = KeyId::parse(header.key_id).and_then(|key_id| Some((key_id, MessageId::parse(key_id.id)?)));
        let (KeyId { kid, iat, .. }, id) = named.ok_or(Failure("the key id of the message is none of ours"))?;
        let key = self.keys.session(kid, &bound, now).ok_or(Failure("no session key of this name opens"))?;
        let label = Label { profile: Profile::Aes128Gcm, kid, iat, id: &id, content_type };
        let input_key = aes128gcm::input_key(key.bytes(), &bound.request(label));
        Ok((input_key, iat, Reply { key, bound, kid: kid.to_owned(), request: id }))
    }
}

impl Reply {
    /// The member that is sealed next.
    pub(in crate::encryption) fn set_part(&mut self, pointer: &str) {
        pointer.clone_into(&mut self.bound.part);
    }

    pub(in crate::encryption) fn seal(
        &self,
        plain: Plain<'_>,
        content_type: &str,
        status: StatusCode,
        now: Now,
    ) -> Sealed {
        let (iat, id) = (now.unix_ms, MessageId::fresh());
        let key_id = KeyId { kid: &self.kid, iat, id: &id.text() }.to_string();
        let header = Header { salt: rand::random(), record_size: RECORD, key_id: &key_id };
        let body = match plain {
            Plain::Body(body) => body,
            Plain::Length(len) => return Sealed::Length(aes128gcm::sealed_len(len, &header)),
        };
        let input_key = self.input_key((iat, &id), content_type, status);
        Sealed::Body(aes128gcm::seal(body, &input_key[..], &header).into())
    }

    /// Of the request's message.
    pub(in crate::encryption) fn request_id(&self) -> MessageId {
        self.request
    }

    /// What seals a response whose end is not known.
    pub(in crate::encryption) fn writer(
        &self,
        record_size: u32,
        content_type: &str,
        status: StatusCode,
        now: Now,
    ) -> Writer {
        let (iat, id) = (now.unix_ms, MessageId::fresh());
        let key_id = KeyId { kid: &self.kid, iat, id: &id.text() }.to_string();
        let header = Header { salt: rand::random(), record_size, key_id: &key_id };
        Writer::new(&self.input_key((iat, &id), content_type, status)[..], &header)
    }

    fn input_key(&self, (iat, id): (u64, &MessageId), content_type: &str, status: StatusCode) -> Zeroizing<[u8; 32]> {
        let label = Label { profile: Profile::Aes128Gcm, kid: &self.kid, iat, id, content_type };
        let context = self.bound.response(label, Answer { status, request: &self.request });
        aes128gcm::input_key(self.key.bytes(), &context)
    }
}
