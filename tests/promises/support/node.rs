//! crypto-js and jsonwebtoken in a Node process that all tests share.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::{Value, json};

use super::{
    credential::now_ms,
    gateway::MASTER_KEY,
    tool::{installed, repository},
};

struct Node {
    /// Ends with its standard input, and that with this process.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Node {
    #[track_caller]
    fn start() -> Self {
        installed("tests/node/node_modules/crypto-js");
        let mut child = Command::new("node")
            .arg(repository("tests/node/client.js"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}; run `scripts/install.sh test` once"));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { _child: child, input, output }
    }
}

/// One operation of `tests/node/client.js`; the text says why it failed.
#[track_caller]
pub fn try_call(operation: &str, mut given: Value) -> Result<String, String> {
    static NODE: OnceLock<Mutex<Node>> = OnceLock::new();
    given["operation"] = operation.into();
    let mut line = String::new();
    {
        // A test that failed in here has not left half an answer behind: the next one may go on.
        let node = NODE.get_or_init(|| Mutex::new(Node::start()));
        let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(node.input, "{given}").expect("node reads");
        node.output.read_line(&mut line).expect("node answers");
    }
    let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("node said {line:?}: {error}"));
    match answer["value"].as_str() {
        Some(value) => Ok(value.to_owned()),
        None => Err(answer["error"].to_string()),
    }
}

#[track_caller]
pub fn call(operation: &str, given: Value) -> String {
    try_call(operation, given).unwrap_or_else(|error| panic!("node: {operation}: {error}"))
}

/// A caller's side of an encryption.
#[derive(Debug, Clone)]
pub struct Sealer {
    /// As the token has it: a string or a number.
    pub user_id: Value,
    pub email: String,
    /// The passphrase is bound to the timestamp.
    pub bound: bool,
}

impl Sealer {
    /// The caller of [`super::Token::alice`].
    pub fn alice() -> Self {
        Self { user_id: "u-1001".into(), email: "alice@example.com".into(), bound: false }
    }

    #[track_caller]
    pub fn passphrase(&self, timestamp: u64) -> String {
        let mut given = json!({"userId": self.user_id, "email": self.email, "masterKey": MASTER_KEY});
        if self.bound {
            given["timestamp"] = timestamp.into();
        }
        call("passphrase", given)
    }

    /// The envelope of this text, as of now.
    #[track_caller]
    pub fn seal(&self, text: &str) -> Value {
        self.seal_at(text, now_ms())
    }

    #[track_caller]
    pub fn seal_at(&self, text: &str, timestamp: u64) -> Value {
        let passphrase = self.passphrase(timestamp);
        json!({
            "encryptedData": call("encrypt", json!({"text": text, "passphrase": passphrase})),
            "keyHash": call("keyHash", json!({"passphrase": passphrase})),
            "timestamp": timestamp,
            "userId": self.user_id,
        })
    }

    /// The content of an envelope, bare or under `data`, after its members were checked.
    #[track_caller]
    pub fn open(&self, answer: &Value) -> String {
        let envelope = answer.get("data").unwrap_or(answer);
        let timestamp = envelope["timestamp"].as_u64().unwrap_or_else(|| panic!("no timestamp: {answer}"));
        let passphrase = self.passphrase(timestamp);
        assert_eq!(envelope["userId"], self.user_id, "{answer}");
        assert_eq!(envelope["keyHash"], call("keyHash", json!({"passphrase": passphrase})), "{answer}");
        call("decrypt", json!({"data": envelope["encryptedData"], "passphrase": passphrase}))
    }
}
