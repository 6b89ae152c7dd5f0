//! crypto-js and jsonwebtoken in a Node process that all tests share.

use std::process::Command;

use serde_json::{Value, json};

use super::{
    credential::now_ms,
    gateway::MASTER_KEY,
    lines::Lines,
    tool::{installed, repository},
};

fn command() -> Command {
    installed("tests/node/node_modules/crypto-js");
    let mut command = Command::new("node");
    command.arg(repository("tests/node/client.js"));
    command
}

/// One operation of `tests/node/client.js`; the text says why it failed.
#[track_caller]
pub fn try_call(operation: &str, given: Value) -> Result<String, String> {
    static NODE: Lines = Lines::new();
    NODE.call(command, operation, given)
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
