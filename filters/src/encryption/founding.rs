//! Requests that may be of the founding format, and requests without a message: whom it answers, until when, and with which
//! proof.

use std::sync::Arc;

use bytes::Bytes;
use gapura_config::model::{MacMode, Profile};
use http::{HeaderValue, header, request};

use super::{
    Encryption,
    context::Bound,
    envelope::{Envelope, Reading},
    fields,
    migration::{PLAINTEXT, WITH_MAC},
    profiles::{
        cryptojs::{self, CryptoJs, Proof},
        strength,
    },
    response::{How, Sealing},
};
use crate::contract::{Exchange, Now, Principal, Refusal};

impl Encryption {
    /// A request without a message: only those profiles can answer one whose keys for that need nothing of it. The weakest of
    /// them does.
    pub(super) async fn without_message(
        &self,
        head: &mut request::Parts,
        exchange: &mut Exchange,
        principal: &Arc<Principal>,
    ) -> Result<(), Refusal> {
        let over = self.legacy.as_ref().is_some_and(|legacy| legacy.is_over(exchange.now.unix_ms));
        let sealing = match (self.cryptojs.as_ref().filter(|_| !over), &self.jwe_rsa) {
            // Derived before any upstream is contacted: a response that cannot be sealed must not come to be.
            (Some(cryptojs), _) => {
                let proof = self.proof(cryptojs, head, exchange, principal, false)?;
                self.refuse_downgrade(principal, proof.as_ref().map_or(PLAINTEXT, |_| WITH_MAC)).await?;
                let key = cryptojs.key_alone(proof, head, exchange, principal, &self.results)?;
                self.refuse_mac_replay(&key, principal, exchange.now).await?;
                Sealing::due(How::CryptoJs(key), head)
            }
            (None, Some(jwe_rsa)) => {
                self.refuse_downgrade(principal, strength(Profile::JweRsa)).await?;
                Sealing::due(How::JweRsa(jwe_rsa.reply()), head)
            }
            (None, None) if !self.required => {
                self.refuse_ended(exchange.now)?;
                self.refuse_downgrade(principal, PLAINTEXT).await?;
                Sealing::not_due()
            }
            (None, None) => {
                self.refuse_ended(exchange.now)?;
                return Err(self.not_envelope("a request without a body has no X-Gapura-Envelope"));
            }
        };
        exchange.sealing = Some(sealing);
        fields::clean_request(&mut head.headers);
        Ok(())
    }

    /// A body that can only be a JSON envelope, or plaintext.
    pub(super) async fn open_json(
        &self,
        head: &mut request::Parts,
        body: &mut Bytes,
        exchange: &mut Exchange,
        principal: &Arc<Principal>,
    ) -> Result<(), Refusal> {
        self.refuse_unreadable(head)?;
        let reading = match &self.cryptojs {
            Some(cryptojs) => cryptojs.read(body),
            None => Reading::Other("the body is of no accepted profile"),
        };
        let (cryptojs, envelope) = match (&self.cryptojs, reading) {
            (Some(cryptojs), Reading::Envelope(envelope)) => (cryptojs, envelope),
            (_, Reading::Other(_)) if !self.required => {
                self.refuse_downgrade(principal, PLAINTEXT).await?;
                self.results.plaintext.inc();
                exchange.sealing = Some(Sealing::not_due());
                fields::clean_request(&mut head.headers);
                return Ok(());
            }
            (_, Reading::Broken(why) | Reading::Other(why)) => return Err(self.not_envelope(why)),
            (None, Reading::Envelope(_)) => return Err(self.not_envelope("the body is of no accepted profile")),
        };
        // Without `required` the content type was not looked at before, as plaintext may have any.
        self.refuse_content_type(head)?;
        let (plaintext, key) = self.open_cryptojs(cryptojs, envelope, body, head, exchange, principal).await?;
        *body = plaintext;
        exchange.sealing = Some(Sealing::due(How::CryptoJs(key), head));
        fields::clean_request(&mut head.headers);
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(())
    }

    /// An envelope of the founding format, with all that is asked of it.
    pub(super) async fn open_cryptojs(
        &self,
        cryptojs: &CryptoJs,
        envelope: Envelope<'_>,
        body: &[u8],
        head: &request::Parts,
        exchange: &Exchange,
        principal: &Arc<Principal>,
    ) -> Result<(Bytes, cryptojs::Key), Refusal> {
        self.refuse_ended(exchange.now)?;
        let proof = self.proof(cryptojs, head, exchange, principal, true)?;
        let strength = proof.as_ref().map_or(strength(Profile::CryptoJs), |_| WITH_MAC);
        self.refuse_downgrade(principal, strength).await?;
        let (plaintext, id, key) = cryptojs.open(envelope, (body, proof), principal, exchange.now, &self.results)?;
        self.refuse_mac_replay(&key, principal, exchange.now).await?;
        self.refuse_replay(id, self.keep(), exchange.now).await?;
        self.results.accepted(Profile::CryptoJs);
        self.note_strength(principal, strength, exchange.now).await;
        Ok((plaintext, key))
    }

    /// What `X-Gapura-Mac` says, not verified yet. None: it is not sent, or not looked at.
    fn proof(
        &self,
        cryptojs: &CryptoJs,
        head: &request::Parts,
        exchange: &Exchange,
        principal: &Arc<Principal>,
        with_body: bool,
    ) -> Result<Option<Proof>, Refusal> {
        let mode = cryptojs.mac();
        if mode == MacMode::Off {
            return Ok(None);
        }
        let proof = Proof::read(&head.headers, || Bound::new(head, exchange, Arc::clone(principal)));
        match proof.map_err(|why| self.failed(why))? {
            None if mode == MacMode::Required && with_body => Err(self.not_envelope("there is no X-Gapura-Mac")),
            proof => Ok(proof),
        }
    }

    /// The MAC's own name of the message: whoever has it again has the whole message again.
    async fn refuse_mac_replay(&self, key: &cryptojs::Key, principal: &Principal, now: Now) -> Result<(), Refusal> {
        let Some(n) = key.request_n() else { return Ok(()) };
        let name = self.replay_id(principal.user_id.as_str(), n.as_bytes());
        self.refuse_replay(name, self.keep(), now).await
    }
}
