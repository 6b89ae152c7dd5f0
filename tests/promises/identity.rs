//! The upstream learns who calls from the gateway alone: the identity headers are the verified caller's, and no spelling of
//! them that a client sends ever arrives, on public routes as on others, over either version of HTTP.

use serde_json::json;

use crate::support::{
    Curl, Gateway, Setup, Token, Upstream, credential::key_hash, expect_problem, gateway::JWT_SECRET, node, token,
    upstream::Heard,
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[jwt.staff]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"
issuer = "https://staff.test"
claims = { user_id = "staff.id", roles = "/realm~1access/roles" }

[api_keys.developers]
scheme = "ApiKey"
salt = "env:API_KEY_SALT"
keys = [
  { id = "ci", hash = "@CI@", user_id = "ci-1", email = "ci@example.com", roles = ["developer", "robot"] },
  { id = "old", hash = "@OLD@", user_id = "old-1", expires = 2020-01-01T00:00:00Z },
]

[api_keys.partners]
header = "X-Api-Key"
salt = "env:API_KEY_SALT"
keys = [{ id = "p", hash = "@PARTNER@", user_id = "partner", permissions = ["READ"] }]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"

[[routes]]
name = "me"
path = "/me"
upstream = "backend"
auth = ["jwt.users", "jwt.staff", "api_keys.developers", "api_keys.partners"]

[[routes]]
name = "discreet"
path = "/discreet"
upstream = "backend"
auth = ["jwt.users", "api_keys.partners"]
forward_credentials = false
"#;

const IDENTITY: [&str; 5] = ["x-user-id", "x-user-email", "x-user-roles", "x-user-permissions", "x-auth-method"];

/// Spellings that some server, framework or gateway reads as an identity header: CGI and WSGI map `-` and `_` to one name,
/// others fold any punctuation.
const SPOOFED: [&str; 12] = [
    "X-User-Id",
    "x-user-id",
    "X_User_Id",
    "x.user.id",
    "X!User~Id",
    "X-User_Email",
    "X_USER_ROLES",
    "x-user.permissions",
    "X-User-Permissions",
    "X-Auth-Method",
    "X_Auth_Method",
    "x^auth'method",
];

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES)
        .put("BACKEND", upstream.address())
        .put("CI", key_hash("key-of-ci"))
        .put("OLD", key_hash("key-of-old"))
        .put("PARTNER", key_hash("key-of-partner"))
        .start()
}

/// Every field that a server could take for an identity header: its folded name and value, in order of the names.
fn identity(heard: &Heard) -> Vec<(String, String)> {
    let fold = |name: &str| -> String {
        let dash = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        name.chars().map(dash).collect()
    };
    let mut found: Vec<_> = heard
        .raw_headers
        .iter()
        .map(|(name, value)| (fold(name), value.clone()))
        .filter(|(name, _)| IDENTITY.contains(&name.as_str()))
        .collect();
    found.sort();
    found
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const ALICE: [(&str, &str); 5] = [
    ("x-auth-method", "jwt.users"),
    ("x-user-email", "alice@example.com"),
    ("x-user-id", "u-1001"),
    ("x-user-permissions", "PAYMENT_PROCESS,PAYMENT_READ"),
    ("x-user-roles", "admin,clerk"),
];

#[test]
fn a_token_becomes_identity_headers() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    gateway.every_way("/me", &[("Authorization", &bearer)], |answer| {
        assert_eq!(answer.status, 200);
        let heard = upstream.last();
        assert_eq!(identity(&heard), pairs(&ALICE));
        assert_eq!(heard.header("authorization"), Some(bearer.as_str()), "credentials pass on by default");
    });
}

#[test]
fn a_token_of_the_usual_library_is_understood() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let claims = json!({"sub": 7, "email": "seven@example.com", "roles": ["r"]});
    let options = json!({"algorithm": "HS256", "expiresIn": "5m"});
    let token = node::call("sign", json!({"claims": claims, "secret": JWT_SECRET, "options": options}));
    // jsonwebtoken insists on a string for `sub` only where it is an option.
    let answer = gateway.request("GET", "/me", &[("Authorization", &format!("Bearer {token}"))], b"");
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    let heard = upstream.only();
    assert_eq!(heard.header("x-user-id"), Some("7"));
    assert_eq!(heard.header("x-user-roles"), Some("r"));
}

#[test]
fn the_issuer_chooses_between_methods() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let staff = json!({"id": "s-9"});
    let roles = json!({"roles": ["boss"]});
    let bearer = Token::new("ignored")
        .with("iss", "https://staff.test")
        .with("staff", staff)
        .with("realm/access", roles)
        .bearer();
    assert_eq!(gateway.request("GET", "/me", &[("Authorization", &bearer)], b"").status, 200);
    let heard = upstream.only();
    assert_eq!(heard.header("x-auth-method"), Some("jwt.staff"));
    assert_eq!(heard.header("x-user-id"), Some("s-9"));
    assert_eq!(heard.header("x-user-roles"), Some("boss"));
}

#[test]
fn an_api_key_becomes_identity_headers() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    assert_eq!(gateway.request("GET", "/me", &[("Authorization", "ApiKey key-of-ci")], b"").status, 200);
    let developer = [
        ("x-auth-method", "api_keys.developers"),
        ("x-user-email", "ci@example.com"),
        ("x-user-id", "ci-1"),
        ("x-user-roles", "developer,robot"),
    ];
    assert_eq!(without_empty(identity(&upstream.last())), pairs(&developer));
    assert_eq!(gateway.request("GET", "/me", &[("X-Api-Key", "key-of-partner")], b"").status, 200);
    let partner = [("x-auth-method", "api_keys.partners"), ("x-user-id", "partner"), ("x-user-permissions", "READ")];
    assert_eq!(without_empty(identity(&upstream.last())), pairs(&partner));
    let expired = gateway.request("GET", "/me", &[("Authorization", "ApiKey key-of-old")], b"");
    expect_problem(&expired, 401, "CREDENTIALS_INVALID");
    assert_eq!(upstream.requests().len(), 2);
}

/// Whether an empty list is an empty field or none is not promised.
fn without_empty(mut fields: Vec<(String, String)>) -> Vec<(String, String)> {
    fields.retain(|(_, value)| !value.is_empty());
    fields
}

#[test]
fn of_several_good_credentials_the_first_method_gives_the_identity() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    let headers = [("X-Api-Key", "key-of-partner"), ("Authorization", bearer.as_str())];
    assert_eq!(gateway.request("GET", "/me", &headers, b"").status, 200);
    assert_eq!(identity(&upstream.only()), pairs(&ALICE));
}

#[test]
fn no_spelling_of_an_identity_header_passes() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    let spoofed = SPOOFED.map(|name| (name, "root"));
    let mut with_token = spoofed.to_vec();
    with_token.push(("Authorization", &bearer));
    for (h2, streamed) in [(false, false), (false, true), (true, false), (true, true)] {
        let send = |target: &str, headers: &[(&str, &str)]| {
            upstream.forget();
            let curl = if h2 { Curl::h2(gateway.https(), target) } else { Curl::h1(gateway.https(), target) };
            let curl = if streamed { curl.streamed(b"body") } else { curl };
            let fetched = curl.headers(headers).run();
            assert_eq!((fetched.exit, fetched.answer.status), (0, 200), "{}", fetched.answer.lossy());
            assert_eq!(fetched.version, if h2 { "2" } else { "1.1" });
            upstream.only()
        };
        let public = send("/open", &spoofed);
        assert_eq!(identity(&public), pairs(&[]), "HTTP/2: {h2}");
        let private = send("/me", &with_token);
        assert_eq!(identity(&private), pairs(&ALICE), "HTTP/2: {h2}");
        let seen = String::from_utf8_lossy(&upstream.bytes()).into_owned();
        assert!(!seen.contains("root"), "{seen}");
    }
}

#[test]
fn a_public_route_has_no_caller() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    // Nobody asked for this token, so nobody verified it: it must not make a caller.
    gateway.every_way("/open", &[("Authorization", &token())], |answer| {
        assert_eq!(answer.status, 200);
        assert_eq!(identity(&upstream.last()), pairs(&[]));
    });
}

#[test]
fn nominating_an_identity_header_does_not_remove_it() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for nominated in IDENTITY {
        upstream.forget();
        let bearer = token();
        let connection = format!("close, {nominated}");
        let headers = [("Authorization", bearer.as_str()), ("Connection", connection.as_str())];
        gateway.every_way("/me", &headers, |answer| match answer.status {
            // To refuse such a request is as good.
            400 => drop(expect_problem(&answer, 400, "REQUEST_MALFORMED")),
            _ => assert_eq!(identity(&upstream.last()), pairs(&ALICE), "Connection: {connection}"),
        });
    }
}

#[test]
fn credentials_stay_here_where_the_route_says_so() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = token();
    let headers = [("Authorization", bearer.as_str()), ("X-Api-Key", "key-of-partner")];
    gateway.every_way("/discreet", &headers, |answer| {
        assert_eq!(answer.status, 200);
        let heard = upstream.last();
        assert_eq!(identity(&heard), pairs(&ALICE));
        assert_eq!((heard.header("authorization"), heard.header("x-api-key")), (None, None));
    });
    let seen = String::from_utf8_lossy(&upstream.bytes()).into_owned();
    assert!(!seen.contains(&bearer["Bearer ".len()..]) && !seen.contains("key-of-partner"), "{seen}");
}

#[test]
fn values_are_utf_8() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let bearer = Token::new("Zoë-用户").with("roles", json!(["rôle"])).bearer();
    gateway.every_way("/me", &[("Authorization", &bearer)], |answer| {
        assert_eq!(answer.status, 200);
        let heard = upstream.last();
        assert_eq!(heard.header("x-user-id"), Some("Zoë-用户"));
        assert_eq!(heard.header("x-user-roles"), Some("rôle"));
    });
}
