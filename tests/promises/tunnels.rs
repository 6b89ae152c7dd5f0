//! An upgraded connection is a tunnel: it stays open as long as both sides want it, and no byte is lost at its end.

use crate::support::{
    Flow, Gateway, Setup, Upstream, Wire,
    wire::{find, request_bytes},
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "open"
path = "/open"
upstream = "backend"
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

/// Answers an upgrade at once, and the client's `bye` with `good bye`; then it closes.
fn tunnel() -> Upstream {
    Upstream::start(|call| {
        call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        let mut heard = Vec::new();
        while !heard.ends_with(b"bye") {
            let bytes = call.receive();
            if bytes.is_empty() {
                return Flow::Close;
            }
            heard.extend(bytes);
        }
        call.send("good ");
        call.send("bye");
        Flow::Close
    })
}

/// What the client hears until the end, in each of many tunnels; and whether the upstream heard the client.
fn tunnels(gateway: &Gateway, upstream: &Upstream, number: usize) -> Vec<(bool, String)> {
    let headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let one = |round: usize| {
        upstream.forget();
        let mut wire =
            if round.is_multiple_of(4) { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
        wire.send(request_bytes("GET", "/open", &headers, b""));
        assert_eq!(wire.head().expect("a head").status, 101);
        wire.send("hello").send(", bye");
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        (find(&upstream.bytes(), b"hello, bye").is_some(), answer)
    };
    (0..number).map(one).collect()
}

/// However soon an upstream answers an upgrade, the tunnel stays open.
#[test]
fn a_tunnel_that_opens_stays_open() {
    let upstream = tunnel();
    let gateway = start(&upstream);
    // A gateway that takes the end of the request for the end of the tunnel does so in one of a hundred or two.
    let all = tunnels(&gateway, &upstream, 1000);
    let broken = all.iter().filter(|(heard, _)| !heard).count();
    assert_eq!(broken, 0, "of {} tunnels so many were closed right after their 101", all.len());
}

/// Whoever closes a tunnel, what was said before arrives.
#[test]
fn the_last_bytes_of_a_tunnel_arrive() {
    let upstream = tunnel();
    let gateway = start(&upstream);
    let cut = tunnels(&gateway, &upstream, 200).into_iter().find(|(heard, answer)| *heard && answer != "good bye");
    assert_eq!(cut, None, "the end of what the upstream said was lost");
}
