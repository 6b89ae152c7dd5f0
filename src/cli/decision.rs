//! `gapura explain --token REF`: what the gateway would say to these credentials, and why. It is for the operator: a client is
//! never told so much.

use std::{
    fmt::Write as _,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use gapura_config::secret::Secret;
use gapura_filters::{
    contract::{Exchange, Now, Principal, Stage},
    policy::{Policy, Route},
    router::Found,
    target::canonical_path,
};
use http::{HeaderName, HeaderValue, Method, Request, header::AUTHORIZATION, request};

use super::seal::{Reference, read};

#[derive(Debug, clap::Args)]
pub(super) struct Credentials {
    /// Also show what is decided for this bearer token: env:NAME or file:/path.
    #[arg(long, value_name = "REF")]
    token: Option<Reference>,
    /// The same for a header with an API key, a cookie, or another scheme: `X-Api-Key=env:KEY`. As often as needed.
    #[arg(long, value_name = "NAME=REF", value_parser = header)]
    header: Vec<(HeaderName, Reference)>,
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    from: IpAddr,
}

fn header(text: &str) -> Result<(HeaderName, Reference), String> {
    // What follows the name may be a secret that was typed by mistake: it is not repeated.
    let (name, reference) = text.split_once('=').ok_or("write NAME=REF, as X-Api-Key=env:KEY")?;
    let name = name.parse().map_err(|_| "what stands before `=` is no header name")?;
    Ok((name, reference.parse()?))
}

impl Credentials {
    /// Nothing where none were given, or no route takes the request.
    pub(super) fn decision(&self, policy: &Policy, method: &Method, target: &str) -> Result<String, String> {
        if self.token.is_none() && self.header.is_empty() {
            return Ok(String::new());
        }
        let path = target.split('?').next().unwrap_or_default();
        let Some(Found::Route(index)) = canonical_path(path).ok().map(|path| policy.find(&path, method)) else {
            return Ok(String::new());
        };
        let head = self.head(method, target)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| format!("no runtime: {why}"))?;
        Ok(runtime.block_on(self.judge(policy.route(index), &head)))
    }

    fn head(&self, method: &Method, target: &str) -> Result<request::Parts, String> {
        let request = Request::builder().method(method).uri(target).body(());
        let mut head = request.map_err(|why| format!("no request has this target: {why}"))?.into_parts().0;
        if let Some(token) = &self.token {
            let token = read(token)?;
            let value = value(&[b"Bearer ", token.bytes()].concat())?;
            head.headers.append(AUTHORIZATION, value);
        }
        for (name, reference) in &self.header {
            let secret: Secret = read(reference)?;
            head.headers.append(name, value(secret.bytes())?);
        }
        Ok(head)
    }

    async fn judge(&self, route: &Route, head: &request::Parts) -> String {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let mut exchange = Exchange::new(Now { monotonic: Default::default(), unix_ms }, self.from);
        exchange.target = head.uri.path_and_query().cloned().unwrap_or(exchange.target);
        exchange.secure = true;
        let judged = route.chain.judge(Stage::Authorisation, head, &mut exchange).await;
        let mut text = String::new();
        // Writing into a String does not fail.
        if let Some(caller) = &exchange.principal {
            let _ = writeln!(text, "  caller           {}", described(caller));
        }
        let _ = match judged {
            Ok(()) => {
                writeln!(text, "  decision         let in; a limit that other requests have used up may still refuse")
            }
            Err((stage, refusal)) => {
                let (status, code) = (refusal.code.status().as_u16(), refusal.code.name());
                writeln!(text, "  decision         {status} {code}, by {}: {}", stage.name(), refusal.reason)
            }
        };
        text
    }
}

fn value(bytes: &[u8]) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| "the credential does not fit into a header")?;
    value.set_sensitive(true);
    Ok(value)
}

fn described(caller: &Principal) -> String {
    let mut text = format!("user {} by {}", caller.user_id.as_str(), caller.method);
    let lists = [("roles", &caller.roles), ("permissions", &caller.permissions)];
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        let _ = write!(text, "; {name} {}", list.join(", "));
    }
    text
}
