//! AWS KMS of the test's own: moto's server on a free port, with keys in its memory. It can be told to fail.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    gateway::Setup,
    tool::{installed, repository},
    wire,
};

pub struct Moto {
    /// Ends with its standard input.
    child: Child,
    address: SocketAddr,
}

impl Moto {
    #[track_caller]
    pub fn start() -> Self {
        let python = installed(".venv/bin/python");
        let mut child = Command::new(python)
            .arg(repository("tests/python/kms.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("moto: {error}; run `scripts/install.sh test` once"));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("moto did not say its port: {line:?}"));
        Self { child, address: ([127, 0, 0, 1], port).into() }
    }

    /// One for all that leave its mode alone, and count operations that nobody else asks for. It ends with this process.
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Moto> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a gateway needs to ask this KMS, and nothing of this machine's own.
    pub fn serve(&self, setup: Setup) -> Setup {
        credentials(setup).put("KMS", self.endpoint())
    }

    /// One operation, as an administrator of keys; answered whatever the mode is.
    #[track_caller]
    pub fn call(&self, operation: &str, given: Value) -> Value {
        let target = format!("TrentService.{operation}");
        let headers = [
            ("X-Amz-Target", target.as_str()),
            ("X-Test", "1"),
            ("Content-Type", "application/x-amz-json-1.1"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=TEST/20260101/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=0",
            ),
        ];
        let answer = wire::request(self.address, "POST", "/", &headers, given.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{operation}: {}", answer.lossy());
        if answer.text().is_empty() { Value::Null } else { answer.json() }
    }

    /// A new key; its ARN.
    #[track_caller]
    pub fn key(&self, spec: &str, usage: &str) -> String {
        let made = self.call("CreateKey", json!({"KeySpec": spec, "KeyUsage": usage}));
        made["KeyMetadata"]["Arn"].as_str().expect("an ARN").to_owned()
    }

    /// What `aws kms encrypt` prints: the ciphertext, in base64.
    #[track_caller]
    pub fn encrypt(&self, key: &str, plaintext: &str, context: Value) -> String {
        let given = json!({"KeyId": key, "Plaintext": STANDARD.encode(plaintext), "EncryptionContext": context});
        self.call("Encrypt", given)["CiphertextBlob"].as_str().expect("a ciphertext").to_owned()
    }

    /// How it answers from now on; see `tests/python/kms.py`.
    #[track_caller]
    pub fn mode(&self, mode: &str) {
        let answer = wire::request(self.address, "POST", "/_test/mode", &[], mode.as_bytes());
        assert_eq!(answer.status, 200);
    }

    /// How often an operation was asked for.
    #[track_caller]
    pub fn calls(&self, operation: &str) -> u64 {
        wire::request(self.address, "GET", "/_test/calls", &[], b"").json()[operation].as_u64().unwrap_or(0)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Of nobody; and where the SDK would look for others there are none.
pub fn credentials(setup: Setup) -> Setup {
    setup
        .env("AWS_ACCESS_KEY_ID", "TEST")
        .env("AWS_SECRET_ACCESS_KEY", "credential-of-aws-not-for-any-log")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
}
