//! nghttp: an HTTP/2 client that reads an answer which comes before its own body has gone out. curl 7 takes the
//! `RST_STREAM(NO_ERROR)` behind such an answer (RFC 9113, section 8.1) for an error.

use std::{io::Write, net::SocketAddr, process::Command};

use super::{
    tool,
    wire::{Answer, find},
};

/// POSTs a body of unknown length.
#[track_caller]
pub fn post_streamed(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    run(&["--no-content-length"], address, target, headers, body)
}

/// POSTs a body with its length.
#[track_caller]
pub fn post(address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    run(&[], address, target, headers, body)
}

#[track_caller]
fn run(options: &[&str], address: SocketAddr, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    // By a file: from its standard input nghttp cannot know a length.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(body).unwrap();
    let mut command = Command::new("nghttp");
    command.args(["--no-verify-peer", "--verbose"]).args(options).arg("--data").arg(file.path());
    for (name, value) in headers {
        command.arg(format!("--header={name}: {value}"));
    }
    command.arg(format!("https://{address}{target}"));
    let output = tool::output(command, b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // `[  0.045] recv (stream_id=13) name: value`
    let headers: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(" recv (stream_id=")?.1.split_once(") ")?.1.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let status = headers.iter().find(|(name, _)| name == ":status").map(|(_, value)| value.parse().unwrap());
    let status = status.unwrap_or_else(|| panic!("no answer: {text}"));
    let length: Option<usize> =
        headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
    // The body is printed as it comes, right before the line about the end of its stream.
    let body = length.and_then(|length| {
        let start = find(text.as_bytes(), b"\n{")? + 1;
        text.as_bytes().get(start..start + length).map(<[u8]>::to_vec)
    });
    Answer { status, headers, body: body.unwrap_or_default(), trailers: Vec::new(), complete: true }
}
