//! Ordinary applications behind the gateway, unchanged: FastAPI and Express, streaming, WebSocket and all.

use serde_json::{Value, json};

use crate::support::{
    Backend, Curl, Gateway, Setup, Token, Wire, token,
    wire::{chunked, request_bytes},
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
auth = ["jwt.users"]
max_body = "16MiB"
"#;

fn start(backend: &Backend) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", backend.address()).start()
}

#[test]
fn the_caller_is_known() {
    for backend in Backend::both() {
        let gateway = start(&backend);
        let bearer = Token::new("Zoë").with("email", "zoe@example.com").with("roles", json!(["a", "b"])).bearer();
        let answer = gateway.request("GET", "/me", &[("Authorization", &bearer), ("X_User_Id", "root")], b"");
        let expected = json!({"user_id": "Zoë", "email": "zoe@example.com", "roles": ["a", "b"]});
        assert_eq!(answer.json(), expected, "{}", backend.name);
    }
}

#[test]
fn json_in_json_out() {
    for backend in Backend::both() {
        let gateway = start(&backend);
        for h2 in [false, true] {
            let curl = |target: &str| {
                let address = gateway.https();
                let curl = if h2 { Curl::h2(address, target) } else { Curl::h1(address, target) };
                curl.header("Authorization", &token())
            };
            let payment = json!({"amount": 5, "currency": "IDR", "card": "4242424242424242"}).to_string();
            let created = curl("/payments").header("Content-Type", "application/json").body(payment).answer();
            assert_eq!(created.status, 201, "{}: {}", backend.name, created.lossy());
            let location = created.header("location").expect("Location").to_owned();
            assert_eq!(curl(&location).answer().json(), created.json(), "{}", backend.name);
            assert_eq!(curl(&location).method("DELETE").answer().status, 204, "{}", backend.name);
            let gone = curl(&location).answer();
            assert_eq!((gone.status, &gone.json()["detail"]), (404, &json!("no such payment")), "{}", backend.name);
        }
    }
}

#[test]
fn events_arrive_one_by_one() {
    for backend in Backend::both() {
        let gateway = start(&backend);
        let bearer = token();
        for tls in [false, true] {
            let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
            // The second event is half a minute away, beyond any patience of this test.
            let headers = [("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
            wire.send(request_bytes("GET", "/events?count=2&interval=60", &headers, b""));
            let head = wire.head().expect("a head");
            assert_eq!(head.status, 200, "{}", backend.name);
            assert!(head.header("content-type").is_some_and(|value| value.starts_with("text/event-stream")));
            let mut text = String::new();
            while !text.contains("id: 0\n") {
                text.push_str(&String::from_utf8_lossy(&wire.chunk().expect("the first event")));
            }
            assert!(!text.contains("id: 1"), "{}: {text}", backend.name);
        }
        // And all of them, where they do come.
        let all = Curl::h2(gateway.https(), "/events?count=20&interval=0").header("Authorization", &bearer).answer();
        assert_eq!(all.text().matches("event: tick").count(), 20, "{}", backend.name);
    }
}

/// A masked frame, as clients send them (RFC 6455, section 5.2).
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..=125) => bytes.push(0x80 | length),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of the next frame, and its opcode.
#[track_caller]
fn read_frame(wire: &mut Wire) -> (u8, Vec<u8>) {
    let start = wire.take(2).expect("a frame");
    assert_eq!(start[1] & 0x80, 0, "a server does not mask");
    let length = match start[1] {
        126 => {
            let length = wire.take(2).expect("a length");
            usize::from(u16::from_be_bytes([length[0], length[1]]))
        }
        length => usize::from(length),
    };
    (start[0] & 0x0f, wire.take(length).expect("a payload"))
}

#[test]
fn a_websocket_echoes() {
    for backend in Backend::both() {
        let gateway = start(&backend);
        let bearer = token();
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for tls in [false, true] {
            let mut wire = if tls { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
            wire.send(request_bytes("GET", "/ws", &headers, b""));
            let head = wire.head().expect("a head");
            assert_eq!(head.status, 101, "{}", backend.name);
            assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{}", backend.name);
            let long = "long ".repeat(2000);
            for text in ["hello", "Zoë", long.as_str()] {
                wire.send(frame(1, text.as_bytes()));
                assert_eq!(read_frame(&mut wire), (1, text.as_bytes().to_vec()), "{}", backend.name);
            }
            wire.send(frame(2, &[0, 255, 1]));
            assert_eq!(read_frame(&mut wire), (2, vec![0, 255, 1]), "{}", backend.name);
            wire.send(frame(8, &1000_u16.to_be_bytes()));
            // The server's own close frame, where it still comes, and the end of the connection.
            let rest = wire.rest();
            assert!(rest.is_empty() || rest[0] == 0x88, "{}: {rest:?}", backend.name);
        }
    }
}

#[test]
fn a_websocket_needs_its_credentials() {
    let backend = Backend::express();
    let gateway = start(&backend);
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let answer = gateway.request("GET", "/ws", &headers, b"");
    crate::support::expect_problem(&answer, 401, "CREDENTIALS_MISSING");
}

#[test]
fn files_of_any_framing_arrive_whole() {
    let file: Vec<u8> = (0..5_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let digest: String = {
        use sha2::Digest;
        sha2::Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for backend in Backend::both() {
        let gateway = start(&backend);
        let expected = json!({"name": "a", "bytes": file.len(), "sha256": digest});
        let bearer = token();
        let mut wire = gateway.connect();
        let headers = [("Authorization", bearer.as_str()), ("Transfer-Encoding", "chunked")];
        wire.send(request_bytes("PUT", "/files/a", &headers, b"")).send(chunked(&file, 60_000));
        let by_chunks = wire.answer("PUT");
        assert_eq!(by_chunks.json(), expected, "{}", backend.name);
        let uploads: [Curl; 2] = [
            Curl::h2(gateway.https(), "/files/a").streamed(&file),
            Curl::h1(gateway.https(), "/files/a").method("PUT").body(&file),
        ];
        for upload in uploads {
            let answer = upload.header("Authorization", &bearer).answer();
            assert_eq!(answer.json(), expected, "{}", backend.name);
        }
    }
}

#[test]
fn bodies_are_echoed_byte_for_byte() {
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for backend in Backend::both() {
        let gateway = start(&backend);
        let bearer = token();
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/x-any; v=1")];
        let answer = gateway.request("POST", "/echo", &headers, &body);
        assert_eq!(answer.header("content-type"), Some("application/x-any; v=1"), "{}", backend.name);
        assert!(answer.body == body, "{}: {} bytes", backend.name, answer.body.len());
    }
}

#[test]
fn the_upstream_speaks_http_1_1_and_sees_one_of_each_field() {
    for backend in Backend::both() {
        let gateway = start(&backend);
        let seen: Value = Curl::h2(gateway.https(), "/debug/request/a%20b?x=1&y=%2F")
            .header("Authorization", &token())
            .header("Content-Type", "text/plain")
            .body("text")
            .answer()
            .json();
        assert_eq!((&seen["http_version"], &seen["method"]), (&json!("1.1"), &json!("POST")), "{}", backend.name);
        assert_eq!((&seen["path"], &seen["query"]), (&json!("/debug/request/a%20b"), &json!("x=1&y=%2F")));
        let mut names: Vec<_> =
            seen["headers"].as_array().unwrap().iter().map(|pair| pair[0].as_str().unwrap()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{}: a field stands twice: {seen}", backend.name);
    }
}
