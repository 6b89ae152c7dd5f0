//! Messages of the strong profiles as clients on libraries of others make them, with keys that the gateway gave them; and a
//! gateway's tables that have a key of each kind.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Answer, Curl, Gateway, Setup, credential::now_ms, python, token};

/// A profile with one of the keys that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub profile: &'static str,
    /// The keyring.
    pub ring: &'static str,
    /// hpke: the AEAD.
    aead: u8,
}

const AES: u8 = 2;
const CHACHA: u8 = 3;

pub const KINDS: [Kind; 6] = [
    Kind { profile: "hpke", ring: "curves", aead: AES },
    Kind { profile: "hpke", ring: "points", aead: CHACHA },
    Kind { profile: "jwe", ring: "curves", aead: AES },
    Kind { profile: "jwe", ring: "points", aead: AES },
    Kind { profile: "jwe", ring: "sessions", aead: AES },
    Kind { profile: "aes128gcm", ring: "sessions", aead: AES },
];

/// An upstream, callers, and a keyring of each kind.
pub const KEYS: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
leeway = "1s"

[keyrings.curves]
kind = "x25519"
versions = [
    { id = "1", key = "file:@DIR@/x25519.pem", state = "active" },
    { id = "0", key = "file:@DIR@/none.pem", state = "revoked" },
]

[keyrings.points]
kind = "p256"
versions = [{ id = "1", key = "file:@DIR@/p256.pem", state = "active" }]

[keyrings.sessions]
kind = "secret"
versions = [{ id = "1", key = "file:@DIR@/secret", state = "active" }]
"#;

/// Their files, TLS, and key delivery, with these tables beside [`KEYS`]. `server` goes into `[server]`.
pub fn setup(tables: &str, backend: impl ToString) -> Setup {
    Setup::new(&format!(
        "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
         key_delivery = true\n\n[tls]\nself_signed = true\n{KEYS}\n{tables}"
    ))
    .put("BACKEND", backend)
    .file("x25519.pem", private_key(&["X25519"]))
    .file("p256.pem", private_key(&["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]))
    .file("secret", [b's'; 32])
}

/// PKCS #8 in PEM, by OpenSSL.
#[track_caller]
pub fn private_key(algorithm: &[&str]) -> Vec<u8> {
    openssl(&[&["genpkey", "-algorithm"], algorithm].concat(), b"")
}

/// What a command of OpenSSL prints.
#[track_caller]
pub fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = std::process::Command::new("openssl");
    command.args(arguments);
    let output = super::tool::output(command, input);
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A route under `/NAME/**` with an entry of its own, which has these settings.
pub fn route(name: &str, settings: &str) -> String {
    format!(
        "\n[encryption.{name}]\n{settings}\n\n[[routes]]\nname = \"{name}\"\npath = \"/{name}/**\"\nupstream = \"backend\"\n\
         auth = [\"jwt.users\"]\nencryption = \"{name}\"\n"
    )
}

/// A client, and what the gateway told it.
pub struct Client {
    keys: Value,
    pub session: Value,
}

/// A message, and what its client keeps of it.
#[derive(Debug, Clone)]
pub struct Message {
    pub kind: Kind,
    /// In base64url, or the compact JWE.
    pub text: String,
    handle: Value,
}

impl Client {
    /// Alice. `path` is on a route whose entry has the ring of session keys.
    #[track_caller]
    pub fn of(gateway: &Gateway, path: &str) -> Self {
        let session = session_key(gateway, path, &token(), b"");
        assert_eq!(session.status, 200, "{}", session.lossy());
        Self { keys: gateway.get("/.well-known/gapura/keys").json(), session: session.json() }
    }

    /// The public key of a ring, as it was delivered.
    pub fn public(&self, ring: &str) -> Value {
        let kid = format!("{ring}.1");
        let key = self.keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str());
        key.unwrap_or_else(|| panic!("no key {kid} was delivered")).clone()
    }

    /// What the Python client is told to make a message of; a test may change it.
    pub fn recipe(&self, kind: Kind, method: &str, target: &str, content: &str) -> Value {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request =
            json!({"method": method, "authority": "gateway.test", "path": path, "query": query, "subject": "u-1001"});
        let content_type = if content.is_empty() { "" } else { "application/json" };
        let (kid, key) = match kind.ring {
            "sessions" => (self.session["kid"].clone(), self.session["session_key"].clone()),
            ring => (format!("{ring}.1").into(), self.public(ring)),
        };
        json!({
            "profile": kind.profile, "kid": kid, "key": key, "aead": kind.aead, "rs": 50, "iat": now_ms(),
            "contentType": content_type, "content": content, "request": request,
            // The curve that the gateway's key is not on.
            "reply": if kind.ring == "curves" { "P-256" } else { "X25519" },
        })
    }

    #[track_caller]
    pub fn seal(&self, kind: Kind, method: &str, target: &str, content: &str) -> Message {
        Message::made(kind, self.recipe(kind, method, target, content))
    }

    /// Of the member at a JSON pointer.
    #[track_caller]
    pub fn seal_member(&self, kind: Kind, method: &str, target: &str, part: &str, content: &str) -> Message {
        let mut recipe = self.recipe(kind, method, target, content);
        recipe["request"]["part"] = part.into();
        Message::made(kind, recipe)
    }
}

impl Message {
    #[track_caller]
    pub fn made(kind: Kind, recipe: Value) -> Self {
        let made = python::object("seal", recipe);
        Self { kind, text: made["message"].as_str().unwrap().to_owned(), handle: made["handle"].clone() }
    }

    #[must_use]
    pub fn with_text(&self, text: impl Into<String>) -> Self {
        Self { text: text.into(), ..self.clone() }
    }

    /// As a body.
    pub fn body(&self) -> Vec<u8> {
        if self.kind.profile == "jwe" { self.text.clone().into() } else { URL_SAFE_NO_PAD.decode(&self.text).unwrap() }
    }

    /// As `X-Gapura-Envelope`.
    pub fn field(&self) -> String {
        format!("{}={}", self.kind.profile, self.text)
    }

    /// What says that a body is one.
    pub fn fields(&self) -> &'static [(&'static str, &'static str)] {
        match self.kind.profile {
            "hpke" => &[("Content-Type", "application/vnd.gapura.hpke")],
            "jwe" => &[("Content-Type", "application/jose")],
            _ => &[("Content-Type", "application/json"), ("Content-Encoding", "aes128gcm")],
        }
    }

    /// Sends it as a body, of Alice.
    #[track_caller]
    pub fn send(&self, gateway: &Gateway, method: &str, target: &str) -> Answer {
        let authorization = token();
        let headers = [&[("Authorization", &*authorization)], self.fields()].concat();
        gateway.request(method, target, &headers, self.body())
    }

    /// Sends it in the header of a request without a body, of Alice.
    #[track_caller]
    pub fn send_alone(&self, gateway: &Gateway, method: &str, target: &str) -> Answer {
        gateway.request(method, target, &[("Authorization", &token()), ("X-Gapura-Envelope", &self.field())], b"")
    }

    /// The content of the answer, after its head was looked at; and what the message says that it is.
    #[track_caller]
    pub fn open(&self, answer: &Answer) -> (String, String) {
        for (name, value) in self.fields() {
            assert_eq!(answer.header(&name.to_lowercase()), Some(*value), "{:?}: {}", self.kind, answer.lossy());
        }
        let text =
            if self.kind.profile == "jwe" { answer.text().to_owned() } else { URL_SAFE_NO_PAD.encode(&answer.body) };
        self.open_text(&text, answer.status, "").unwrap_or_else(|why| panic!("{:?}: {why}", self.kind))
    }

    /// A message of the answer, sealed for this place in it.
    pub fn open_text(&self, text: &str, status: u16, part: &str) -> Result<(String, String), String> {
        self.open_typed(text, status, part, "application/json")
    }

    /// The type is what the head says, for the profile that says it there.
    pub fn open_typed(
        &self,
        text: &str,
        status: u16,
        part: &str,
        content_type: &str,
    ) -> Result<(String, String), String> {
        let opened = python::try_call(
            "open",
            json!({
                "handle": self.handle, "message": text, "status": status, "part": part, "contentType": content_type,
            }),
        )?;
        let opened: Value = serde_json::from_str(&opened).expect("an object");
        Ok((opened["content"].as_str().unwrap().to_owned(), opened["contentType"].as_str().unwrap().to_owned()))
    }
}

/// Asks for the session key of a POST to this path, over TLS.
#[track_caller]
pub fn session_key(gateway: &Gateway, path: &str, authorization: &str, body: &[u8]) -> Answer {
    let target = format!("/.well-known/gapura/session-key?path={path}");
    Curl::h1(gateway.https(), &target).method("POST").header("Authorization", authorization).body(body).answer()
}
