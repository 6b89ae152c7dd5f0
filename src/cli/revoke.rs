//! `gapura revoke`: tells a running gateway, over its admin listener, that tokens are taken back.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gapura_config::units::Address;
use serde_json::{Value, json};

use super::{Exit, check, print};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The configuration of the gateway: its admin listener is called.
    #[arg(short, long, value_name = "FILE", default_value = "gapura.toml")]
    config: PathBuf,
    /// The admin listener, where it is not the one of the configuration.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Whose tokens: the NAME of `[jwt.NAME]`.
    #[arg(long, value_name = "NAME")]
    jwt: String,
    #[command(flatten)]
    what: What,
    /// When the last of these tokens ends, in seconds since 1970. Until then it is remembered; without it, always.
    #[arg(long, value_name = "SECONDS")]
    expires: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The token with this `jti`.
    #[arg(long)]
    jti: Option<String>,
    /// All tokens of this user that were issued up to now.
    #[arg(long, value_name = "USER_ID")]
    subject: Option<String>,
    /// All tokens that were issued before: `now`, or seconds since 1970.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    issued_before: Option<u64>,
}

fn instant(text: &str) -> Result<u64, String> {
    match text {
        "now" => Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        _ => text.parse().map_err(|_| "write `now`, or a whole number of seconds since 1970".to_owned()),
    }
}

/// For each step of the call.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(options: &Options) -> ExitCode {
    let admin = match &options.admin {
        Some(admin) => admin.clone(),
        None => match check::load(&options.config) {
            Err(code) => return code,
            Ok(loaded) => match loaded.config.server.admin {
                Some(Address::Tcp { host, port }) => format!("{host}:{port}"),
                _ => return Exit::Input.with("the configuration has no `server.admin`; name one by --admin HOST:PORT"),
            },
        },
    };
    let What { jti, subject, issued_before } = &options.what;
    let members = [
        ("jwt", Some(json!(options.jwt))),
        ("jti", jti.as_ref().map(|jti| json!(jti))),
        ("subject", subject.as_ref().map(|subject| json!(subject))),
        ("issued_before", issued_before.map(|seconds| json!(seconds))),
        ("expires", options.expires.map(|seconds| json!(seconds))),
    ];
    let body: serde_json::Map<String, Value> =
        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    match post(&admin, &Value::from(body).to_string()) {
        Err(why) => Exit::Environment.with(&format!("the gateway's admin listener at {admin}: {why}")),
        Ok((200, answer)) => print(answer.as_bytes()),
        Ok((status, answer)) => {
            let problem: Option<Value> = serde_json::from_str(&answer).ok();
            let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
            let exit = if status == 400 { Exit::Input } else { Exit::Environment };
            exit.with(detail.unwrap_or("the gateway answered with something else than expected"))
        }
    }
}

/// Status and body. One call, one connection.
fn post(admin: &str, body: &str) -> io::Result<(u16, String)> {
    let address = admin.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let head = format!(
        "POST /revocations HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer)?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unreadable)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(unreadable)?;
    Ok((status, body.to_owned()))
}
