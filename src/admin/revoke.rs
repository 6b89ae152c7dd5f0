//! `POST /revocations`: tokens that are taken back.

use bytes::{Bytes, BytesMut};
use gapura_config::model::Config;
use gapura_filters::{
    authentication::{MAX_NAME, MAX_REVOCATIONS, Revocation, Unpublished},
    contract::{Clock, Code, Refusal},
    json::{self, Json, Number, Object},
};
use pingora::protocols::http::ServerSession;

use crate::wiring::Gateway;

/// Longer than any call with all its members.
const MAX_BODY: usize = 4096;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// `jwt.NAME`
    method: String,
    revocation: Revocation,
    until_ms: Option<u64>,
}

pub(super) async fn read(session: &mut ServerSession) -> Result<Bytes, Refusal> {
    let mut body = BytesMut::new();
    loop {
        match session.read_request_body().await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(piece)) if body.len() + piece.len() <= MAX_BODY => body.extend_from_slice(&piece),
            Ok(Some(_)) => return Err(malformed(&format!("it has more than {MAX_BODY} bytes"))),
            Err(_) => return Err(malformed("it ends too soon")),
        }
    }
}

/// It holds here at once. It is done when other instances will learn of it, too.
pub(super) async fn revoke(gateway: &Gateway, body: &[u8]) -> Result<(), Refusal> {
    let services = &gateway.services;
    let now_ms = gateway.clock.now().unix_ms;
    let Call { method, revocation, until_ms } =
        parse(body, &gateway.live().config, now_ms).map_err(|why| malformed(&why))?;
    let revoked = services.revocations.revoke(&method, &revocation, until_ms, now_ms).map_err(|_| {
        let detail = format!("{MAX_REVOCATIONS} revocations are held, and none of them may be forgotten yet.");
        Refusal::new(Code::Overloaded, detail)
    })?;
    services.metrics.revocations.with_label_values(&[revocation.kind()]).inc();
    // Whose is personal data; the caller of this knows.
    log::warn!("security: tokens of {method} are revoked, by {}", revocation.kind());
    let Some(shared) = &services.shared_revocations else { return Ok(()) };
    shared.publish(&revoked).await.map_err(|unpublished| {
        let why = match unpublished {
            Unpublished::Silent => {
                "Redis gives no answer. This instance tells it when it does; call again to see it done."
            }
            Unpublished::Full => {
                "Redis holds as many as it may. Call every other instance, or revoke by `issued_before`."
            }
        };
        log::error!("security: other instances do not know of this revocation: {why}");
        let detail = format!("It holds on this instance from now on, and others do not know of it: {why}");
        Refusal::new(Code::Overloaded, detail)
    })
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(Code::RequestMalformed, format!("The revocation cannot be read: {why}."))
}

/// `{"jwt": "users", "jti": "…"}`, or `subject`, or `issued_before`, and perhaps `expires`.
fn parse(body: &[u8], config: &Config, now_ms: u64) -> Result<Call, String> {
    let members = json::parse_object(body).map_err(|why| why.to_string())?;
    let known = ["jwt", "jti", "subject", "issued_before", "expires"];
    if members.iter().any(|(name, _)| !known.contains(&name)) {
        return Err(format!("its members are {}", known.join(", ")));
    }
    let name = text(&members, "jwt")?.ok_or("`jwt` names no table")?;
    if !config.jwt.contains_key(&name) {
        return Err("there is no such `[jwt.NAME]`".into());
    }
    let about = (text(&members, "jti")?, text(&members, "subject")?, seconds(&members, "issued_before")?);
    let revocation = match about {
        (Some(jti), None, None) => Revocation::Token { jti },
        (None, Some(user_id), None) => Revocation::Subject { user_id },
        // It could not be taken back, and no new token would be good.
        (None, None, Some(seconds)) if seconds * 1000 > now_ms + AHEAD_MS => {
            return Err("`issued_before` lies in the future: it is a whole number of seconds since 1970".into());
        }
        (None, None, Some(seconds)) => {
            Revocation::IssuedBefore { instant: i64::try_from(seconds * 1000).unwrap_or(i64::MAX) }
        }
        _ => return Err("it has one of `jti`, `subject` and `issued_before`".into()),
    };
    let until_ms = seconds(&members, "expires")?.map(|seconds| seconds * 1000);
    // Nobody would keep it: most likely it was meant as a period.
    if until_ms.is_some_and(|until| until <= now_ms) {
        return Err("`expires` has passed: it is a whole number of seconds since 1970".into());
    }
    Ok(Call { method: format!("jwt.{name}"), revocation, until_ms })
}

fn text(members: &Object<'_>, name: &str) -> Result<Option<String>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::String(text)) if (1..=MAX_NAME).contains(&text.len()) => Ok(Some(text.to_string())),
        Some(Json::Number(Number::Unsigned(number))) if name == "subject" => Ok(Some(number.to_string())),
        Some(_) => Err(format!("`{name}` is a text of at most {MAX_NAME} bytes")),
    }
}

/// How far clocks may differ.
const AHEAD_MS: u64 = 60_000;

/// The end of the year 9999: beyond it stand milliseconds.
const LAST: u64 = 253_402_300_799;

fn seconds(members: &Object<'_>, name: &str) -> Result<Option<u64>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Json::Number(Number::Unsigned(seconds))) if *seconds <= LAST => Ok(Some(*seconds)),
        Some(_) => Err(format!("`{name}` is a whole number of seconds since 1970")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;

    fn call(body: &str) -> Result<Call, String> {
        let text = "[server]\nhttp = [\"127.0.0.1:1\"]\nplaintext = true\n[upstreams.u]\nservers = [\"127.0.0.1:2\"]\n\
                    [jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:S\"\n\
                    [[routes]]\nname = \"r\"\npath = \"/**\"\nupstream = \"u\"\nauth = [\"jwt.users\"]";
        let loaded = gapura_config::parse("test", text).unwrap_or_else(|faults| panic!("{faults}"));
        parse(body.as_bytes(), &loaded.config, NOW_MS)
    }

    #[test]
    fn exactly_one_thing_is_revoked() {
        let by_token = call(r#"{"jwt":"users","jti":"a","expires":1767225607}"#).unwrap();
        assert_eq!(by_token.revocation, Revocation::Token { jti: "a".into() });
        assert_eq!((by_token.method.as_str(), by_token.until_ms), ("jwt.users", Some(NOW_MS + 7000)));
        let subject = |body| call(body).unwrap().revocation;
        let seven = Revocation::Subject { user_id: "7".into() };
        assert_eq!(subject(r#"{"jwt":"users","subject":7}"#), seven);
        assert_eq!(subject(r#"{"jwt":"users","subject":"7"}"#), seven);
        let all = subject(r#"{"jwt":"users","issued_before":1767225600}"#);
        assert_eq!(all, Revocation::IssuedBefore { instant: 1_767_225_600_000 });
        for (body, why) in [
            ("", ""),
            ("[]", ""),
            (r#"{"jwt":"users","jti":"a","jti":"b"}"#, ""),
            (r#"{"jwt":"users"}"#, "one of `jti`"),
            (r#"{"jwt":"users","jti":"a","subject":"b"}"#, "one of `jti`"),
            (r#"{"jti":"a"}"#, "`jwt` names no table"),
            (r#"{"jwt":"staff","jti":"a"}"#, "no such `[jwt.NAME]`"),
            (r#"{"jwt":"users","jti":""}"#, "`jti` is a text"),
            (r#"{"jwt":"users","jti":7}"#, "`jti` is a text"),
            (r#"{"jwt":"users","issued_before":1767225600000}"#, "seconds since 1970"),
            (r#"{"jwt":"users","issued_before":-1}"#, "seconds since 1970"),
            (r#"{"jwt":"users","jti":"a","expires":3600}"#, "`expires` has passed"),
            (r#"{"jwt":"users","issued_before":17672256000}"#, "lies in the future"),
            (r#"{"jwt":"users","subject":"a","reason":"x"}"#, "its members are"),
        ] {
            let refused = call(body).unwrap_err();
            assert!(refused.contains(why), "{body}: {refused}");
        }
    }
}
