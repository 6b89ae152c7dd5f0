//! curl: HTTP/2, TLS, and a client that nobody here wrote.

use std::{net::SocketAddr, process::Command};

use super::{
    tool,
    wire::{Answer, parse_fields},
};

/// A call of curl. Certificates are not verified unless a test says how.
pub struct Curl {
    arguments: Vec<String>,
    body: Option<Vec<u8>>,
    verify: bool,
}

/// How it went.
pub struct Fetched {
    /// curl's own exit code; 0 is a complete answer.
    pub exit: i32,
    /// `1.1`, `2`; `0` where there was no answer.
    pub version: String,
    /// What curl said on standard error, `-v` included.
    pub log: String,
    pub answer: Answer,
}

impl Curl {
    /// `https://…` over HTTP/2.
    pub fn h2(address: SocketAddr, target: &str) -> Self {
        Self::to(&format!("https://{address}{target}")).option("--http2")
    }

    /// `https://…` over HTTP/1.1.
    pub fn h1(address: SocketAddr, target: &str) -> Self {
        Self::to(&format!("https://{address}{target}")).option("--http1.1")
    }

    /// As curl would choose.
    pub fn to(url: &str) -> Self {
        // The target goes out as it is written, and no proxy of this machine stands between.
        let always = ["--silent", "--show-error", "--path-as-is", "--globoff", "--noproxy", "*", "--max-time", "60"];
        let mut arguments: Vec<String> = always.map(str::to_owned).into();
        arguments.push(url.to_owned());
        Self { arguments, body: None, verify: false }
    }

    #[must_use]
    pub fn option(mut self, option: &str) -> Self {
        self.arguments.push(option.to_owned());
        self
    }

    #[must_use]
    pub fn options<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.arguments.extend(options.map(str::to_owned));
        self
    }

    #[must_use]
    pub fn method(self, method: &str) -> Self {
        if method == "HEAD" { self.option("--head") } else { self.options(["--request", method]) }
    }

    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let line = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        self.options(["--header", &line])
    }

    #[must_use]
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |curl, (name, value)| curl.header(name, value))
    }

    /// Sent with a Content-Length; POST unless a method is given.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self.options(["--data-binary", "@-"])
    }

    /// Sent without a length: chunked over HTTP/1.1, DATA frames over HTTP/2. PUT unless a method is given.
    #[must_use]
    pub fn streamed(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self.options(["--upload-file", "-"])
    }

    /// Certificates are verified.
    #[must_use]
    pub fn verify(mut self) -> Self {
        self.verify = true;
        self
    }

    #[track_caller]
    pub fn run(self) -> Fetched {
        let folder = tempfile::tempdir().unwrap();
        let (head, body) = (folder.path().join("head"), folder.path().join("body"));
        let mut command = Command::new("curl");
        // A ~/.curlrc of whoever runs the tests must not change them; it must come first.
        command.arg("--disable").args(&self.arguments);
        if !self.verify {
            command.arg("--insecure");
        }
        command.arg("--dump-header").arg(&head).arg("--output").arg(&body);
        command.args(["--write-out", "%{http_version} %{http_code}"]);
        let output = tool::output(command, self.body.as_deref().unwrap_or_default());
        let exit = output.status.code().expect("curl was killed");
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let (version, status) = written.split_once(' ').unwrap_or_else(|| panic!("curl wrote {written:?}"));
        let head = String::from_utf8_lossy(&std::fs::read(head).unwrap_or_default()).into_owned();
        // Interim answers stand before the final one, trailers behind it.
        let last = head.split("\r\n\r\n").filter(|block| block.starts_with("HTTP/")).last().unwrap_or_default();
        let answer = Answer {
            status: status.parse().unwrap(),
            headers: parse_fields(last.split_once("\r\n").map_or("", |(_, fields)| fields)),
            body: std::fs::read(body).unwrap_or_default(),
            trailers: Vec::new(),
            complete: exit == 0,
        };
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        Fetched { exit, version: version.to_owned(), log, answer }
    }

    /// The answer of a call that must come to its end.
    #[track_caller]
    pub fn answer(self) -> Answer {
        let fetched = self.run();
        assert_eq!(fetched.exit, 0, "curl: {}", fetched.log);
        fetched.answer
    }
}
