//! Tokens in cookies and among subprotocols, through the whole gateway.

use jsonwebtoken::{Algorithm, EncodingKey};

use crate::{gateway::Gateway, key_file, token, upstream::Upstream};

fn gateway(upstream: &Upstream, source: &str, route: &str) -> Gateway {
    Gateway::start(&format!(
        "[upstreams.app]\nservers = [\"{}\"]\n\
         [jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"file:{}\"\ntoken = \"{source}\"\n\
         [[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\n{route}\n",
        upstream.address,
        key_file("hs256.secret")
    ))
}

fn good() -> String {
    let secret = std::fs::read(key_file("hs256.secret")).unwrap();
    token(Algorithm::HS256, None, None, &EncodingKey::from_secret(&secret))
}

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn handshake(gateway: &Gateway, protocols: &str) -> crate::gateway::Response {
    gateway.get("/", &[&HANDSHAKE[..], &[("Sec-WebSocket-Protocol", protocols)]].concat())
}

#[test]
fn a_cookie_opens_and_stays_behind() {
    let upstream = Upstream::start(None);
    let gateway = gateway(&upstream, "cookie:session", "forward_credentials = false");
    let cookies = format!("theme=dark; session={}", good());
    assert_eq!(gateway.get("/", &[("Cookie", &cookies)]).status, 200);
    let head = upstream.last();
    assert!(head.contains("cookie: theme=dark\n") && !head.contains("session="), "{head}");
    assert!(head.contains("x-user-id: u1\n"), "{head}");

    for cookies in ["session=x.y.z", "theme=dark", &format!("{cookies}; session=")] {
        let refused = gateway.get("/", &[("Cookie", cookies)]);
        assert_eq!(refused.status, 401, "{}", refused.body);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=\"gapura\", cookie=\"session\""), "{challenge}");
    }
    assert_eq!(upstream.count(), 1, "what was refused reached the upstream");
    let metrics = gateway.admin("/metrics").body;
    for counted in [r#"{code="CREDENTIALS_INVALID"} 2"#, r#"{code="CREDENTIALS_MISSING"} 1"#] {
        assert!(metrics.contains(counted), "{metrics}");
    }
}

#[test]
fn a_websocket_authenticates_by_subprotocol() {
    let upstream = Upstream::start(None);
    // The token stays behind whatever `forward_credentials` says.
    let gateway = gateway(&upstream, "websocket_protocol", "");
    let opened = handshake(&gateway, &format!("bearer, {}", good()));
    assert_eq!(opened.status, 101, "{}", opened.body);
    // A browser breaks off where none of its subprotocols is chosen.
    assert_eq!(opened.header("sec-websocket-protocol"), Some("bearer"));
    let head = upstream.last();
    assert!(!head.contains("sec-websocket-protocol") && head.contains("x-user-id: u1\n"), "{head}");

    for protocols in ["bearer, x.y.z", "bearer", "chat"] {
        assert_eq!(handshake(&gateway, protocols).status, 401, "{protocols}");
    }
    assert_eq!(upstream.count(), 1, "what was refused reached the upstream");
}

#[test]
fn the_subprotocol_that_the_upstream_chooses_stands() {
    let upstream = Upstream::start(Some("chat.v2"));
    let gateway = gateway(&upstream, "websocket_protocol", "");
    let opened = handshake(&gateway, &format!("chat.v1, bearer, {}, chat.v2", good()));
    assert_eq!((opened.status, opened.header("sec-websocket-protocol")), (101, Some("chat.v2")));
    let head = upstream.last();
    assert!(head.contains("sec-websocket-protocol: chat.v1, chat.v2\n"), "{head}");
}
