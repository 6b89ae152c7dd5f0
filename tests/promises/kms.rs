//! Keys that AWS KMS lends: they serve as any other, no longer than KMS says yes, and again as soon as it does.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use crate::support::{
    Answer, Curl, Gateway, Moto, Setup, Token, Upstream, expect_problem,
    gateway::{API_KEY_SALT, JWT_SECRET, MASTER_KEY, command},
    moto::credentials,
    node::Sealer,
    token, until,
    wait::until_true,
    wire::{self, Wire},
};

const SESSION_SECRET: &str = "session-secret-4c1e9a7b3f5d2860-not-for-any-log";

const TABLES: &str = r#"
[kms]
region = "eu-west-1"
endpoint = "@KMS@"
encryption_context = { service = "gapura" }
cache = "@CACHE@"
timeout = "@TIMEOUT@"

[limits]
body_timeout = "2m"

[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "kms:file:@DIR@/jwt.enc"

[jwt.known]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[api_keys.partners]
header = "X-Api-Key"
salt = "kms:env:SEALED_SALT"
keys = [{ id = "p", hash = "@PARTNER@", user_id = "partner", email = "p@example.com" }]

[keyrings.sessions]
kind = "secret"
versions = [{ id = "1", key = "kms:env:SEALED_SESSIONS", state = "active" }]

[encryption.founding]
profile = ["aes128gcm", "cryptojs"]
master_key = "kms:file:@DIR@/master.enc"
keyrings = ["sessions"]

[[routes]]
name = "sealed"
path = "/sealed"
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]
encryption = "founding"

[encryption.streamed]
profile = "aes128gcm"
keyrings = ["sessions"]
inner_types = ["application/octet-stream"]
stream = true

[[routes]]
name = "streamed"
path = "/streamed"
upstream = "backend"
auth = ["jwt.users"]
encryption = "streamed"

[[routes]]
name = "keyed"
path = "/keyed"
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]

[[routes]]
name = "apart"
path = "/apart"
upstream = "backend"
auth = ["jwt.known"]
"#;

/// Everything that the configuration has encrypted, in base64 or as it is.
fn setup(moto: &Moto, upstream: &Upstream, key: &str) -> Setup {
    let sealed = |secret: &str| moto.encrypt(key, secret, json!({"service": "gapura"}));
    let server = "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
                  key_delivery = true\n\n[tls]\nself_signed = true\n";
    let setup = Setup::new(&format!("{server}{TABLES}"))
        .put("BACKEND", upstream.address())
        .put("PARTNER", crate::support::credential::key_hash("the-partners-key"))
        .file("jwt.enc", STANDARD.decode(sealed(JWT_SECRET)).unwrap())
        .file("master.enc", sealed(MASTER_KEY) + "\n")
        .env("SEALED_SALT", &sealed(API_KEY_SALT))
        .env("SEALED_SESSIONS", &sealed(SESSION_SECRET));
    moto.serve(setup)
}

/// With terms that no slow machine reaches by itself.
fn lasting(setup: Setup) -> Setup {
    setup.put("CACHE", "5m").put("TIMEOUT", "30s")
}

/// With terms that a test can wait for: from a reload on, which may be tried again.
fn fleeting(setup: Setup) -> Gateway {
    let gateway = lasting(setup).start();
    gateway.rewrite(&gateway.text().replace("@CACHE@", "5s").replace("@TIMEOUT@", "1s"));
    until_true("a reload with short terms", || gateway.reload().status == 200);
    gateway
}

fn symmetric(moto: &Moto) -> String {
    moto.key("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")
}

/// Of an ARN.
fn id(key: &str) -> &str {
    key.rsplit('/').next().unwrap()
}

#[track_caller]
fn sealed(gateway: &Gateway) -> Answer {
    let envelope = Sealer::alice().seal(r#"{"amount":1}"#).to_string();
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    gateway.request("POST", "/sealed", &headers, envelope)
}

/// HKDF-SHA-256 with an empty salt, as docs/strong-envelopes.md has session keys.
fn session_key(kid: &str, subject: &str, token_id: &str) -> Vec<u8> {
    let mac = |key: &[u8], message: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(message);
        mac.finalize().into_bytes().to_vec()
    };
    let mut info = Vec::new();
    for field in ["gapura session key v2", kid, "jwt.users", subject, token_id] {
        info.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
        info.extend(field.as_bytes());
    }
    info.push(1);
    mac(&mac(&[], SESSION_SECRET.as_bytes()), &info)
}

#[test]
fn what_kms_holds_serves_as_any_other_key() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let key = symmetric(&moto);
    // What is logged most freely, and places that would lead elsewhere were they heeded.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = lasting(setup(&moto, &upstream, &key))
        .env("RUST_LOG", "trace,aws_sigv4=trace,aws_smithy_runtime=trace,hyper_util=trace")
        .env("LOG_SENSITIVE_BODIES", "true")
        .env("AWS_SESSION_TOKEN", "session-of-aws-not-for-any-log")
        .env("AWS_ENDPOINT_URL_KMS", "http://kms.example")
        .env("HTTP_PROXY", &format!("http://{}", proxy.local_addr().unwrap()));

    // `check` asks nobody and says so; `check --online` does.
    let checked = setup.command(&["check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("AWS KMS was not asked") && said.contains("check --online"), "{said}");
    assert_eq!(moto.calls("Decrypt"), 0);
    let checked = setup.command(&["check", "--online"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(moto.calls("Decrypt"), 4, "each key once");

    // What is not needed is not asked for; what is shown is where keys are, never what they are.
    let explained = setup.command(&["explain", "POST", "/sealed"]);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        text.contains("leases") && text.contains("kms:env:SEALED_SESSIONS") && text.contains("/master.enc"),
        "{text}"
    );
    let gateway = setup.start();
    let file = gateway.directory().join("gapura.toml");
    let listed = command(&["keyring", "list", "--config", file.to_str().unwrap()], &[], "");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains(r#""key":"kms:env:SEALED_SESSIONS""#), "{listed}");
    // The master key of the founding format, the secret of tokens.
    let answer = sealed(&gateway);
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    assert_eq!(Sealer::alice().open(&answer.json()), upstream_body());
    assert_eq!(upstream.last().text(), r#"{"amount":1}"#);
    // The salt of API keys.
    assert_eq!(gateway.request("GET", "/keyed", &[("X-Api-Key", "the-partners-key")], b"").status, 200);
    expect_problem(&gateway.request("GET", "/keyed", &[("X-Api-Key", "another-key")], b""), 401, "CREDENTIALS_INVALID");
    // A keyring of kind secret.
    let target = "/.well-known/gapura/session-key?path=/sealed&method=POST";
    let bearer = Token::alice().with("jti", "t-1").bearer();
    let answer = Curl::h1(gateway.https(), target).method("POST").header("Authorization", &bearer).answer().json();
    let kid = answer["kid"].as_str().expect("a kid");
    assert_eq!(answer["session_key"], URL_SAFE_NO_PAD.encode(session_key(kid, "u-1001", "t-1")));

    assert_eq!(gateway.metric("gapura_kms_keys", &["state=\"valid\""]), 4.0);
    assert_eq!(gateway.metric("gapura_kms_calls_total", &["operation=\"decrypt\"", "result=\"success\""]), 4.0);
    // A reload asks anew, and gives the leases of before back.
    assert_eq!(gateway.reload().status, 200);
    until_true("the leases of before are gone", || gateway.metric("gapura_kms_keys", &["state=\"valid\""]) == 4.0);

    commands_read_them_as_well(&moto, &key);
    let told = [gateway.log(), gateway.output(), text, listed, said].concat();
    for secret in [JWT_SECRET, API_KEY_SALT, MASTER_KEY, SESSION_SECRET, "credential-of-aws", "session-of-aws"] {
        assert!(!told.contains(secret) && !told.contains(&STANDARD.encode(secret)), "{secret}");
    }
    assert!(told.contains("TRACE"), "the log is as talkative as it gets");
    proxy.set_nonblocking(true).unwrap();
    assert_eq!(proxy.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "a proxy was told a key");
}

/// On the command line, with nothing but the environment.
#[track_caller]
fn commands_read_them_as_well(moto: &Moto, key: &str) {
    let salt = moto.encrypt(key, API_KEY_SALT, json!({}));
    let profile = tempfile::NamedTempFile::new().unwrap();
    let said = "[default]\nservices = here\n[services here]\nkms =\n  endpoint_url = http://kms.example\n";
    std::fs::write(profile.path(), said).unwrap();
    let hash = |place: &str, endpoint: &str| {
        let environment = [
            ("SALT", &*salt),
            (place, endpoint),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ACCESS_KEY_ID", "TEST"),
            ("AWS_SECRET_ACCESS_KEY", "TEST"),
        ];
        command(&["keys", "hash", "--salt", "kms:env:SALT"], &environment, "the-partners-key")
    };
    // KMS has 3 s here by default: a slow machine may ask again.
    let hashed = until("KMS is asked", || {
        Some(hash("AWS_ENDPOINT_URL", &moto.endpoint())).filter(|output| output.status.success())
    });
    let expected = crate::support::credential::key_hash("the-partners-key");
    assert_eq!(String::from_utf8_lossy(&hashed.stdout).trim(), expected);
    for (place, endpoint) in [
        ("AWS_ENDPOINT_URL", "http://kms.example"),
        ("AWS_ENDPOINT_URL_KMS", "http://kms.example"),
        ("AWS_CONFIG_FILE", profile.path().to_str().unwrap()),
    ] {
        let refused = hash(place, endpoint);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{place}: {said}");
        assert!(said.contains("keys would travel in the clear"), "{place}: {said}");
    }
    let silent = hash("AWS_ENDPOINT_URL", &format!("http://{}", nobody()));
    assert_eq!(silent.status.code(), Some(3), "{}", String::from_utf8_lossy(&silent.stderr));
}

fn upstream_body() -> &'static str {
    "ok"
}

#[test]
fn an_outage_lasts_until_the_end_of_the_keys_and_heals_by_itself() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let gateway = fleeting(setup(&moto, &upstream, &symmetric(&moto)));
    until_true("envelopes are opened", || sealed(&gateway).status == 200);

    moto.mode("hang");
    until_true("what needs a key is refused", || {
        gateway.request("GET", "/keyed", &[("Authorization", &*token())], b"").status == 503
    });
    until_true("the other key has ended, too", || sealed(&gateway).status == 503);
    let before = upstream.requests().len();
    let problem = expect_problem(&sealed(&gateway), 503, "OVERLOADED");
    assert!(!problem.to_string().contains("kms"), "{problem}");
    // Even who has no good credential learns no more.
    expect_problem(&gateway.request("GET", "/keyed", &[("X-Api-Key", "another-key")], b""), 503, "OVERLOADED");
    assert_eq!(upstream.requests().len(), before, "nothing refused reaches an upstream");
    assert_eq!(gateway.request("GET", "/apart", &[("Authorization", &*token())], b"").status, 200);

    until_true("the metrics tell", || gateway.metric("gapura_kms_keys", &["state=\"ended\""]) == 4.0);
    let ready = wire::request(gateway.admin(), "GET", "/readyz", &[], b"");
    assert_eq!(ready.status, 200, "what needs no key of KMS is served: {}", ready.lossy());
    let ended: Vec<&str> = ready.text().lines().filter(|line| line.contains("has ended")).collect();
    assert_eq!(ended.len(), 4, "each once: {ended:?}");
    assert!(ended.iter().any(|line| line.contains("/jwt.enc has ended")), "{ended:?}");
    assert!(gateway.metric("gapura_kms_calls_total", &["result=\"unavailable\""]) > 0.0);

    // Without KMS there is no other configuration; the one that runs stays.
    let refused = gateway.reload();
    assert_eq!(refused.status, 422, "{}", refused.lossy());
    assert!(refused.lossy().contains("AWS KMS gives no answer"), "{}", refused.lossy());
    assert_eq!(gateway.request("GET", "/apart", &[("Authorization", &*token())], b"").status, 200);

    moto.mode("");
    until_true("KMS is back", || sealed(&gateway).status == 200);
    until_true("all keys are", || wire::request(gateway.admin(), "GET", "/readyz", &[], b"").text() == "ready\n");
    assert!(
        gateway.log().contains("has ended, and what needs it is refused: AWS KMS gives no answer"),
        "{}",
        gateway.log()
    );
    assert!(gateway.log().contains("has given the key kms:env:SEALED_SALT again"));
}

#[test]
fn a_body_that_comes_after_the_end_of_a_key_is_not_for_it() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let gateway = fleeting(setup(&moto, &upstream, &symmetric(&moto)));
    let envelope = Sealer::alice().seal(r#"{"amount":1}"#).to_string();
    let waiting = [
        ("/sealed", "application/json", "identity", &*envelope),
        ("/streamed", "application/octet-stream", "aes128gcm", &*envelope),
        ("/.well-known/gapura/session-key?path=/sealed&method=POST", "application/json", "identity", "{}"),
    ]
    .map(|(target, kind, coding, body)| {
        (target, until("a head is accepted", || head(&gateway, target, kind, coding, body)), body)
    });

    moto.mode("hang");
    until_true("all keys have ended", || gateway.metric("gapura_kms_keys", &["state=\"ended\""]) == 4.0);
    let before = upstream.requests().len();
    for (target, mut wire, body) in waiting {
        let answer = wire.send(body).answer("POST");
        assert_eq!(answer.status, 503, "{target}: {}", answer.lossy());
        expect_problem(&answer, 503, "OVERLOADED");
    }
    assert_eq!(upstream.requests().len(), before, "nothing refused reaches an upstream");
}

/// A request that has passed all that looks at heads, and is asked for its body.
fn head(gateway: &Gateway, target: &str, kind: &str, coding: &str, body: &str) -> Option<Wire> {
    let (token, length) = (token(), body.len().to_string());
    let headers = [
        ("Authorization", &*token),
        ("Content-Type", kind),
        ("Content-Encoding", coding),
        ("Content-Length", &*length),
        ("Expect", "100-continue"),
    ];
    let mut wire = Wire::tls(gateway.https(), &[]);
    wire.send(wire::request_bytes("POST", target, &headers, b""));
    wire.head().filter(|head| head.status == 100).map(|_| wire)
}

#[test]
fn a_key_that_is_disabled_ends_and_comes_back() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let key = symmetric(&moto);
    let gateway = fleeting(setup(&moto, &upstream, &key));
    until_true("envelopes are opened", || sealed(&gateway).status == 200);
    moto.call("DisableKey", json!({"KeyId": id(&key)}));
    until_true("what needs the key is refused", || sealed(&gateway).status == 503);
    until_true("the log says why", || gateway.log().contains("AWS KMS says no: DisabledException"));
    moto.call("EnableKey", json!({"KeyId": id(&key)}));
    until_true("it is enabled again", || sealed(&gateway).status == 200);
}

#[test]
fn a_reload_that_waits_for_kms_holds_up_no_end() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let gateway = lasting(setup(&moto, &upstream, &symmetric(&moto))).start();
    let before = moto.calls("Decrypt");
    moto.mode("hang");
    gateway.signal("HUP");
    until_true("the reload asks", || moto.calls("Decrypt") > before);
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0), "{}", gateway.log());
    // It would have waited for half a minute, and then said so.
    until_true("the log is whole", || gateway.log().contains("stopped"));
    assert!(!gateway.log().contains("was not reloaded"), "{}", gateway.log());
}

#[test]
fn no_gateway_starts_without_its_keys() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let key = symmetric(&moto);
    let short = |setup: Setup| setup.put("CACHE", "5m").put("TIMEOUT", "1s");
    for (mode, exit, said) in [
        ("hang", 3, "AWS KMS gives no answer: no answer in time"),
        ("garbage", 3, "AWS KMS gives no answer"),
        ("error", 3, "AWS KMS gives no answer: KMSInternalException"),
        ("throttle", 3, "AWS KMS gives no answer: ThrottlingException"),
        ("deny", 1, "AWS KMS says no: AccessDeniedException"),
    ] {
        moto.mode("");
        let setup = setup(&moto, &upstream, &key);
        // Only silence is to be waited for.
        let setup = if mode == "hang" { short(setup) } else { lasting(setup) };
        moto.mode(mode);
        refuses(setup.spawn(), exit, said);
    }
    moto.mode("");
    // Nobody there.
    let elsewhere = TABLES.replace("@KMS@", &format!("http://{}", nobody()));
    let server = "[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\n";
    let alone = Setup::new(&format!("{server}{elsewhere}"))
        .put("BACKEND", upstream.address())
        .put("PARTNER", "0".repeat(64))
        .file("jwt.enc", "AAAA")
        .file("master.enc", "AAAA")
        .env("SEALED_SALT", "AAAA")
        .env("SEALED_SESSIONS", "AAAA");
    let alone = short(credentials(alone));
    for command in [&["check", "--online"][..], &["explain", "GET", "/apart"]] {
        let refused = alone.command(command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(3) && said.contains("AWS KMS gives no answer"), "{command:?}: {said}");
    }
    refuses(alone.spawn(), 3, "AWS KMS gives no answer");
    // Of another context, of no key, of a key that is disabled.
    let other = moto.encrypt(&key, JWT_SECRET, json!({"service": "another"}));
    refuses(lasting(setup(&moto, &upstream, &key)).file("jwt.enc", other).spawn(), 1, "of another encryption context");
    refuses(lasting(setup(&moto, &upstream, &key)).file("jwt.enc", "AAAA").spawn(), 1, "InvalidCiphertextException");
    let disabled = lasting(setup(&moto, &upstream, &key));
    moto.call("DisableKey", json!({"KeyId": id(&key)}));
    refuses(disabled.spawn(), 1, "AWS KMS says no: DisabledException");
}

/// An address where nothing listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// It ends, says why, and where.
#[track_caller]
fn refuses(gateway: Gateway, exit: i32, said: &str) {
    assert_eq!(gateway.exit().code(), Some(exit), "{}", gateway.log());
    until_true(said, || gateway.log().contains(said));
    assert!(!gateway.log().contains("is ready"));
}

/// What needs no answer is told without one, and what nobody was asked hides nothing else.
#[test]
fn a_check_tells_all_that_is_known_without_kms() {
    let text = "[upstreams.backend]\nservers = [\"127.0.0.1:1\"]\n\n[jwt.users]\nalgorithms = [\"HS256\"]\n\
                secret = \"kms:file:@DIR@/jwt.enc\"\n\n[jwt.known]\nalgorithms = [\"HS256\"]\nsecret = \"env:SHORT\"\n\n\
                [[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"backend\"\nauth = [\"jwt.users\"]\n\n\
                [[routes]]\nname = \"b\"\npath = \"/b\"\nupstream = \"backend\"\nauth = [\"jwt.known\"]\n";
    let setup = Setup::plain(text).env("SHORT", "short");
    let check = |setup: &Setup| {
        let output = setup.command(&["check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = check(&setup);
    assert!(code == Some(1) && said.contains("No such file") && said.contains("never the key itself"), "{said}");
    let (code, said) = check(&setup.file("jwt.enc", "AAAA"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("AWS KMS was not asked") && said.contains("fewer than 32 bytes"), "{said}");
}

#[test]
fn a_check_that_may_ask_does_so_whatever_else_is_wrong() {
    let (moto, upstream) = (Moto::start(), Upstream::ok());
    let setup = lasting(setup(&moto, &upstream, &symmetric(&moto))).replace("path = \"/apart\"", "path = \"apart\"");
    moto.mode("deny");
    let checked = setup.command(&["check", "--online"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("AWS KMS says no: AccessDeniedException"), "{said}");
    assert!(said.contains("\"apart\"") && said.contains("see the key in AWS KMS"), "{said}");
    // Whom to ask nobody knows.
    let setup = setup.replace("region = \"eu-west-1\"", "regions = \"eu-west-1\"");
    let before = moto.calls("Decrypt");
    let checked = setup.command(&["check", "--online"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.contains("AWS KMS was not asked"), "{said}");
    assert_eq!(moto.calls("Decrypt"), before);
}

/// A new key in the clear lies only where it was said that it may.
#[test]
fn the_ring_that_kms_opens_is_rotated_without_a_key_in_the_clear_by_the_way() {
    let text = "[kms]\nencryption_context = { service = \"gapura\" }\n\n[upstreams.backend]\nservers = [\"127.0.0.1:1\"]\n\n\
                [keyrings.partners]\nkind = \"rsa\"\nversions = [{ id = \"1\", key = \"kms:key:alias/a\", state = \"active\" }]\n\n\
                [keyrings.sessions]\nkind = \"secret\"\n\
                versions = [{ id = \"1\", key = \"kms:file:@DIR@/sessions.enc\", state = \"active\" }]\n\n\
                [[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"backend\"\n";
    let setup = Setup::plain(text);
    let clear = tempfile::tempdir().unwrap();
    let folder = clear.path().to_str().unwrap();
    let rotate = |more: &[&str]| setup.command(&[&["keyring", "rotate", "--id", "2"], more].concat());
    for (more, why) in
        [(&["partners", "--folder", folder][..], "make the next one there"), (&["sessions"], "say with --folder")]
    {
        let refused = rotate(more);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && said.contains(why), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    let made = rotate(&["sessions", "--folder", folder]);
    let said = String::from_utf8_lossy(&made.stdout).into_owned();
    let reference = format!("\"kms:file:{}/sessions-2.enc\"", setup.directory().display());
    assert!(made.status.success() && said.contains(&reference), "{said}");
    for part in ["aws kms encrypt", "'{\"service\":\"gapura\"}'", "shred -u"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(clear.path().join("sessions-2.secret").is_file());
    let again = rotate(&["sessions", "--folder", folder]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("give another --id"));
}
