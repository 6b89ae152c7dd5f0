//! The configuration as an operator writes it: one type per table, one field per key.
//!
//! These types are the single source: `serde` fills them, the JSON Schema of `gapura schema` is derived from them, the
//! checks of `shape` follow that schema, and each doc comment is what an editor shows beside its key.

mod assertion;
mod database;
mod dpop;
mod encryption;
mod foreign_keys;
mod jwt_decryption;
mod keyring;
mod kms;
mod lockout;
mod mtls;
mod operation_tokens;
mod priority;
mod rate_limit;
mod redis_store;

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

pub use self::{
    assertion::IdentityAssertion,
    database::DatabaseRef,
    dpop::{Binding, Dpop},
    encryption::{Encryption, EnvelopeFields, KeyDerivation, MacMode, Preset, Profile, Profiles, Replay, ResponseWrap},
    foreign_keys::{FindBy, HashEncoding, Hashed, IntrospectionClaims, KeyCache, KeyHash, KeyIntrospection, KeyLookup},
    jwt_decryption::{JweAlgorithm, JweContent, JwtDecryption},
    keyring::{KeyKind, KeyState, KeyVersion, Keyring},
    kms::Kms,
    lockout::{Lockout, LockoutMode},
    mtls::{CertificateName, Mtls, MtlsPrincipal},
    operation_tokens::{IssuedFor, OperationToken, UsedFor},
    priority::Priority,
    rate_limit::{LimitAlgorithm, LimitBy, LimitCost, LimitKey, LimitMode, RateLimit, ToldCost},
    redis_store::{OnOutage, Redis, RedisMode, Sentinel},
};
use crate::{
    secret::SecretRef,
    units::{Address, Period, Size},
};

/// Tables with names of the operator's choice: `[upstreams.NAME]`.
pub type Named<T> = BTreeMap<String, T>;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the gateway listens.
    #[serde(default)]
    pub server: Server,
    /// Bounds on connections and request heads.
    #[serde(default)]
    pub limits: Limits,
    /// Certificates of the https listeners.
    pub tls: Option<Tls>,
    /// Counters, replay nonces, lock-outs: in memory, or in Redis.
    #[serde(default)]
    pub state: State,
    /// What happens to addresses that guess at credentials.
    #[serde(default)]
    pub lockout: Lockout,
    /// The servers behind the gateway, by name.
    #[serde(default)]
    pub upstreams: Named<Upstream>,
    /// Ways to authenticate with a bearer token; a route names them `jwt.NAME`.
    #[serde(default)]
    pub jwt: Named<Jwt>,
    /// What is taken for a proof of possession (RFC 9449).
    #[serde(default)]
    pub dpop: Dpop,
    /// Ways to authenticate with a client certificate; a route names them `mtls.NAME`.
    #[serde(default)]
    pub mtls: Named<Mtls>,
    /// Ways to authenticate with an API key; a route names them `api_keys.NAME`.
    #[serde(default)]
    pub api_keys: Named<ApiKeys>,
    /// Rules of how many requests pass in a time, by name.
    #[serde(default)]
    pub rate_limits: Named<RateLimit>,
    /// AWS KMS, where `kms:` references name keys.
    #[serde(default)]
    pub kms: Kms,
    /// Keys of envelopes, each in versions that follow one another, by name.
    #[serde(default)]
    pub keyrings: Named<Keyring>,
    /// Body encryption settings, by name.
    #[serde(default)]
    pub encryption: Named<Encryption>,
    /// Signed tokens that tell upstreams who calls.
    pub identity_assertion: Option<IdentityAssertion>,
    /// Tokens that one route gives out and another takes once, by name.
    #[serde(default)]
    pub operation_tokens: Named<OperationToken>,
    /// What is served, and on which conditions.
    pub routes: Vec<Route>,
}

/// Where the gateway listens. Listeners and `threads` need a restart to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// TLS listeners: HTTP/1.1 and HTTP/2 by ALPN.
    pub https: Vec<Address>,
    /// Plain listeners. They answer 308 to https unless `plaintext = true`.
    pub http: Vec<Address>,
    /// Serve requests on the plain listeners; `[tls]` may then be absent.
    pub plaintext: bool,
    /// /healthz, /readyz, /metrics and the admin API. Never a public address.
    pub admin: Option<Address>,
    /// Worker threads; 0 is one per core.
    pub threads: usize,
    /// Only from these networks are X-Forwarded-For, Forwarded and X-Request-Id believed.
    #[schemars(with = "Vec<String>", extend("items" = { "type": "string", "format": "cidr" }))]
    pub trusted_proxies: Vec<IpNet>,
    /// One log line per request, on standard error.
    pub access_log: bool,
    /// Public listeners give out envelope keys, under /.well-known/gapura/.
    pub key_delivery: bool,
}

/// Bounds on connections and request heads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections open at once over all public listeners; one more is closed at once.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: usize,
    /// Requests that may be with upstreams at once, over all routes; see `priority` of routes. Absent: any number.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// From accept to the end of the TLS handshake.
    pub handshake_timeout: Period,
    /// From the first byte of a request head to its last: an absolute deadline, whatever trickles in.
    pub head_timeout: Period,
    /// A connection without a request is closed after this.
    pub idle_timeout: Period,
    /// The longest pause between two reads of a request body, or two writes of a response.
    pub body_timeout: Period,
    /// Request line and header fields together.
    pub max_head: Size,
    /// Header fields of one request.
    #[schemars(range(min = 1, max = 250))]
    pub max_headers: usize,
    /// HTTP/2 streams open at once on one connection.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_streams: u32,
    /// How long running requests may take to end after SIGTERM.
    pub shutdown_grace: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_in_flight: None,
            handshake_timeout: Period::secs(10),
            head_timeout: Period::secs(10),
            idle_timeout: Period::secs(60),
            body_timeout: Period::secs(30),
            max_head: Size::kib(32),
            max_headers: 100,
            max_streams: 100,
            shutdown_grace: Period::secs(30),
        }
    }
}

/// Certificates of the https listeners, and whether clients must show theirs.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The one that fits the SNI name, else the first.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Development: a certificate made at start, its fingerprint logged.
    #[serde(default)]
    pub self_signed: bool,
    /// The oldest version spoken. 1.3 locks out clients from before about 2019.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// PEM bundle of the authorities that sign client certificates: mutual TLS.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must show a certificate. Default: `required` where `client_ca` is set.
    pub client_auth: Option<ClientAuth>,
    /// Lists of certificates that the authorities have revoked, PEM or DER; with one, every authority of a chain must have one.
    #[serde(default)]
    pub client_crls: Vec<PathBuf>,
    /// What becomes of clients whose authority's list should have been replaced by now.
    #[serde(default)]
    pub client_crls_expired: RevocationExpiry,
}

/// A PEM certificate chain and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file: the certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    Required,
    Optional,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationExpiry {
    /// None of them is let in.
    #[default]
    Closed,
    /// The list holds as it is.
    Open,
}

/// Counters, replay nonces, lock-outs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// Where the counters are: `memory` is of one instance, `redis` of all.
    pub store: Store,
    /// How Redis is reached, for `store = "redis"`.
    pub redis: Option<Redis>,
    /// Keys that the memory limiter holds at once. New keys beyond it share one bucket per network: a flood never evicts a live counter.
    #[schemars(range(min = 1000, max = 100_000_000))]
    pub max_keys: usize,
    /// The file in which the memory store keeps the counters of windows of five minutes and longer over a restart. Absent: it does not.
    pub snapshot: Option<PathBuf>,
    /// Envelopes, proofs and operation tokens remembered, since each passes once. A full memory refuses; it never forgets early.
    #[schemars(range(min = 1000, max = 100_000_000))]
    pub max_replays: usize,
}

impl Default for State {
    fn default() -> Self {
        Self { store: Store::Memory, redis: None, max_keys: 200_000, snapshot: None, max_replays: 1_000_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    Memory,
    /// Shared between instances.
    Redis,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Tried in turn; one that refuses the connection is passed over for the next.
    #[schemars(length(min = 1))]
    pub servers: Vec<Address>,
    /// To connect, TLS included.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Period,
    /// A pooled connection unused this long is closed. Keep it below the backend's own limit (uvicorn and Node: 5 s).
    #[serde(default = "upstream_idle")]
    pub idle_timeout: Period,
    /// Speak TLS to the servers.
    #[serde(default)]
    pub tls: bool,
    /// The name that the certificate must carry and that SNI sends. Required with `tls = true` unless every server is named, not numbered.
    pub server_name: Option<String>,
    /// PEM bundle of authorities to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// Requests carry an assertion of `[identity_assertion]`.
    #[serde(default)]
    pub identity_assertion: bool,
}

fn connect_timeout() -> Period {
    Period::secs(5)
}
fn upstream_idle() -> Period {
    Period::secs(4)
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Where a request carries the token: `header` (`Authorization: Bearer`), `cookie:NAME`, or `websocket_protocol`.
    #[serde(default)]
    pub token: TokenSource,
    /// Exactly what is accepted, all of one key type. `none` does not exist.
    #[schemars(length(min = 1))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// The shared secret of HS256, HS384, HS512.
    pub secret: Option<SecretRef>,
    /// A public key in PEM, for RS*, PS*, ES* and EdDSA.
    pub public_key: Option<SecretRef>,
    /// A JSON Web Key Set: `file:/path` or `https://host/path`.
    #[schemars(extend("format" = "jwks"))]
    pub jwks: Option<String>,
    /// Ask the issuer where its key set is (OpenID Connect Discovery): `issuer` is then an https address.
    #[serde(default)]
    pub discovery: bool,
    /// PEM bundle of authorities to trust instead of the system's, for keys that are fetched.
    pub ca: Option<PathBuf>,
    /// The exact `iss` a token must carry.
    pub issuer: Option<String>,
    /// A token must carry one of these in `aud`.
    #[serde(default)]
    pub audience: Vec<String>,
    /// How far clocks may differ, for `exp`, `nbf` and `iat`.
    #[serde(default = "leeway")]
    pub leeway: Period,
    /// A token issued longer ago than this is refused, whatever its `exp` says; so is one without `iat`.
    pub max_age: Option<Period>,
    /// The `typ` that a token's header must carry. Absent: `JWT`, `at+jwt` or none.
    pub typ: Option<String>,
    /// Claims that a token must have with these values; `"*"` is any value. Names as in `claims`.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
    /// What a token must be bound to: `optional` (nothing), `certificate` (RFC 8705), `dpop` (RFC 9449) or `any` of the two.
    #[serde(default)]
    pub binding: Binding,
    /// Tokens are encrypted, too: each is a JWE that holds the signed token. Absent: they are not.
    pub decryption: Option<JwtDecryption>,
    /// Where in a token the identity stands.
    #[serde(default)]
    pub claims: Claims,
}

impl Jwt {
    /// Its keys come over the network.
    pub fn fetches_keys(&self) -> bool {
        self.discovery || self.jwks.as_ref().is_some_and(|set| set.starts_with("https://"))
    }
}

/// Where a token stands in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer TOKEN`.
    #[default]
    Header,
    /// The value of this cookie.
    Cookie(String),
    /// `Sec-WebSocket-Protocol: bearer, TOKEN`.
    WebsocketProtocol,
}

fn leeway() -> Period {
    Period::secs(30)
}

/// Where in a token the caller's identity stands: a member's name, a dotted path, or a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    /// The user id. A token without it is refused.
    pub user_id: String,
    /// The e-mail address, for envelopes and `X-User-Email`.
    pub email: String,
    /// What a route may ask for in `roles`.
    pub roles: String,
    /// What a route may ask for in `permissions`.
    pub permissions: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self { user_id: "sub".into(), email: "email".into(), roles: "roles".into(), permissions: "permissions".into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// The header that carries the key.
    #[serde(default = "authorization")]
    #[schemars(extend("format" = "header-name"))]
    pub header: String,
    /// `Authorization: <scheme> <key>`. Without it the whole header value is the key.
    pub scheme: Option<String>,
    /// The HMAC key of the stored hashes: of `keys` and `database`.
    pub salt: Option<SecretRef>,
    /// Where `gapura keys create` keeps keys: `sqlite:/path`, or `env:NAME` or `file:/path` with the address of a PostgreSQL database.
    pub database: Option<DatabaseRef>,
    /// Keys that a backend issued, in its own table.
    pub lookup: Option<KeyLookup>,
    /// Keys that a backend issued, by an endpoint that knows them.
    pub introspection: Option<KeyIntrospection>,
    /// How long answers of these two are remembered.
    #[serde(default)]
    pub cache: KeyCache,
    /// The keys that are accepted, as hashes.
    #[serde(default)]
    pub keys: Vec<ApiKey>,
}

fn authorization() -> String {
    "Authorization".into()
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Names the key in logs and limits; not secret.
    pub id: String,
    /// Lowercase hex of HMAC-SHA-256(salt, key), as `gapura keys hash` prints it.
    #[schemars(extend("format" = "hex-sha256"))]
    pub hash: String,
    /// The user that the key stands for.
    pub user_id: String,
    /// The e-mail address of that user; body encryption needs it.
    pub email: Option<String>,
    /// What a route may ask for in `roles`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What a route may ask for in `permissions`.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// Only clients in these networks may use the key. Absent: all.
    #[schemars(with = "Option<Vec<String>>", length(min = 1), extend("items" = { "type": "string", "format": "cidr" }))]
    pub allow: Option<Vec<IpNet>>,
    /// Limits of this key in place of those of rate limits, by their names: `{ api = 5000 }`.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = { "type": "integer", "minimum": 1, "maximum": 1_000_000_000 }))]
    pub limits: Named<u64>,
    /// A date and time with an offset: 2027-01-01T00:00:00Z. Absent: never.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires: Option<toml_datetime::Datetime>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Names the route in metrics and logs. Unique.
    pub name: String,
    /// Exact, `/*` or `/{NAME}` for one segment, `/**` for any depth. The longest literal prefix wins.
    #[schemars(extend("format" = "path-pattern"))]
    pub path: String,
    /// Absent: all. GET includes HEAD.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "format": "method" }))]
    pub methods: Vec<String>,
    /// The upstream that serves it: the NAME of `[upstreams.NAME]`.
    pub upstream: String,
    /// Only clients in these networks. Absent: all.
    #[schemars(with = "Option<Vec<String>>", length(min = 1), extend("items" = { "type": "string", "format": "cidr" }))]
    pub allow: Option<Vec<IpNet>>,
    /// No client in these networks, allowed or not.
    #[schemars(with = "Option<Vec<String>>", length(min = 1), extend("items" = { "type": "string", "format": "cidr" }))]
    pub deny: Option<Vec<IpNet>>,
    /// Any one of these methods, `jwt.NAME`, `api_keys.NAME` or `mtls.NAME`. Absent: public.
    #[serde(default)]
    pub auth: Vec<String>,
    /// The caller needs all of them.
    #[serde(default)]
    pub permissions: Vec<String>,
    /// The caller needs any one of them.
    #[serde(default)]
    pub roles: Vec<String>,
    /// A condition on request and caller that must be true: `path.user_id == claims.sub`.
    pub guard: Option<String>,
    /// Its successful responses carry an operation token: the NAME of `[operation_tokens.NAME]`.
    pub issues: Option<String>,
    /// A request needs an operation token, which it uses up: the NAME of `[operation_tokens.NAME]`.
    pub requires: Option<String>,
    /// Its requests carry an assertion of `[identity_assertion]`. Absent: as its upstream says.
    pub identity_assertion: Option<bool>,
    /// All of these rules.
    #[serde(default)]
    pub rate_limits: Vec<String>,
    /// Bodies are sealed: the NAME of `[encryption.NAME]`. Absent: they are not.
    pub encryption: Option<String>,
    /// The largest request body; a larger one is answered with 413.
    #[serde(default = "max_body")]
    pub max_body: Size,
    /// To the response head, and between two reads of a streamed response; on encrypted routes the whole exchange with the upstream.
    #[serde(default = "timeout")]
    pub timeout: Period,
    /// How many requests of this route may be with its upstream at once. Absent: any number.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_in_flight: Option<u32>,
    /// How many more may wait for one of them to end. Beyond it: 503.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub queue: u32,
    /// How long they wait; then 503.
    #[serde(default = "queue_timeout")]
    pub queue_timeout: Period,
    /// Who is refused first when `limits.max_in_flight` is near.
    #[serde(default)]
    pub priority: Priority,
    /// Pass `Authorization`, the API key header and the cookie of a token to the upstream.
    #[serde(default = "yes")]
    pub forward_credentials: bool,
    /// Response headers that tell browsers to be careful.
    #[serde(default)]
    pub security_headers: SecurityHeaders,
}

fn max_body() -> Size {
    Size::mib(1)
}
fn timeout() -> Period {
    Period::secs(30)
}
fn queue_timeout() -> Period {
    Period::secs(1)
}

/// A preset of response headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityHeaders {
    /// For answers that programs read.
    #[default]
    Api,
    /// For pages.
    Web,
    /// None are added.
    Off,
}

impl std::str::FromStr for TokenSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "header" => Self::Header,
            "websocket_protocol" => Self::WebsocketProtocol,
            _ => match text.strip_prefix("cookie:") {
                Some(name) if is_token(name) => Self::Cookie(name.to_owned()),
                _ => {
                    return Err(format!(
                        "`{text}` is no place of a token; write \"header\", \"cookie:NAME\" or \"websocket_protocol\""
                    ));
                }
            },
        })
    }
}

impl std::fmt::Display for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header => f.write_str("header"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::WebsocketProtocol => f.write_str("websocket_protocol"),
        }
    }
}

/// RFC 9110, section 5.6.2: what a field name, a method or a scheme is made of.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

crate::units::written_as_string! {
    TokenSource => "token-source", "header, cookie:NAME or websocket_protocol";
}
