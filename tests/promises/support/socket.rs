//! A WebSocket of Node's `ws`, in a process of its own.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};

use super::{
    tool::{installed, repository},
    wait::DEADLINE,
};

pub struct Socket {
    /// Ends with its standard input.
    child: Child,
    input: ChildStdin,
    events: Receiver<Value>,
}

impl Socket {
    /// Open. `credential` is a header and its value.
    #[track_caller]
    pub fn open(url: &str, credential: (&str, &str)) -> Self {
        installed("examples/express/node_modules/ws");
        let mut child = Command::new("node")
            .arg(repository("tests/node/socket.js"))
            .args([url, credential.0, credential.1])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}; run `scripts/install.sh test` once"));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (say, events) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": line})));
            }
        });
        let socket = Self { child, input, events };
        socket.expect(&json!({"event": "open"}));
        socket
    }

    #[track_caller]
    fn next(&self) -> Value {
        self.events.recv_timeout(DEADLINE).expect("something happens to the socket")
    }

    #[track_caller]
    pub fn expect(&self, event: &Value) {
        assert_eq!(self.next(), *event);
    }

    /// Says something, and hears it from an upstream that echoes.
    #[track_caller]
    pub fn echo(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
        self.expect(&json!({"event": "message", "text": text}));
    }

    /// Nothing has happened until now.
    #[track_caller]
    pub fn expect_silence(&self) {
        assert_eq!(self.events.try_recv().ok(), None);
    }

    /// By the peer, which says why.
    #[track_caller]
    pub fn expect_close(&self, code: u16, reason: &str) {
        self.expect(&json!({"event": "close", "code": code, "reason": reason}));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
