//! Profile `hpke`: see [`crate::crypto::hpke`] for the format. What is added here are keys and context.

use gapura_config::model::Profile;
use http::StatusCode;

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
    crypto::hpke::{self, Header, ResponseHeader, ResponseKeys},
    keyring::Key,
};

/// What the response to a request takes.
pub(in crate::encryption) struct Reply {
    keys: ResponseKeys,
    bound: Bound,
    kid: String,
    request: MessageId,
}

impl Encryption {
    pub(in crate::encryption) fn open_hpke(
        &self,
        message: Message<'_>,
        bound: Bound,
        now: Now,
    ) -> Result<Opened, Failure> {
        let mut bytes = message.binary()?;
        let (header, _) = Header::read(&bytes).map_err(|_| Failure("the header of the message cannot be read"))?;
        let (kid, content_type) = (header.kid.to_owned(), header.content_type.to_owned());
        let (iat, id) = (header.iat, MessageId(header.id));
        let Some(Key::Agreement(key)) = self.keys.private(&kid, now) else {
            return Err(Failure("no key of this name opens"));
        };
        let label = Label { profile: Profile::Hpke, kid: &kid, iat, id: &id, content_type: &content_type };
        let opened = hpke::open(&mut bytes, key.into(), &bound.request(label));
        let opened = opened.map_err(|_| Failure("the message is not for this key and request"))?;
        Ok(Opened {
            plaintext: bytes.freeze().slice(opened.plaintext),
            content_type,
            iat: Some(iat),
            unique: id.0.to_vec(),
            sealing: How::Hpke(Reply { keys: opened.response, bound, kid, request: id }),
        })
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
        // One byte tells its length. What does not fit says nothing of any use either.
        let content_type = if content_type.len() > 255 { "" } else { content_type };
        let (iat, id) = (now.unix_ms, MessageId::fresh());
        let header = ResponseHeader { iat, id: id.0, content_type };
        let body = match plain {
            Plain::Body(body) => body,
            Plain::Length(len) => return Sealed::Length(hpke::response_len(len, &header)),
        };
        let label = Label { profile: Profile::Hpke, kid: &self.kid, iat, id: &id, content_type };
        let context = self.bound.response(label, Answer { status, request: &self.request });
        Sealed::Body(self.keys.seal(body, &header, rand::random(), &context).into())
    }
}
