//! An upgraded connection is a tunnel: it stays open as long as both sides want it, and no byte is lost at its end.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
};

use crate::support::{
    Flow, Gateway, Setup, Upstream, Wire,
    wait::until_true,
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

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Answers an upgrade at once, and the client's `bye` with `good bye`; then it closes.
fn tunnel() -> Upstream {
    Upstream::start(|call| {
        call.send(SWITCHED);
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
    let one = |round: usize| {
        upstream.forget();
        let mut wire =
            if round.is_multiple_of(4) { Wire::tls(gateway.https(), &["http/1.1"]) } else { gateway.connect() };
        wire.send(request_bytes("GET", "/open", &UPGRADE, b""));
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

/// A tunnel, and a second handle to it, for another thread.
fn open(gateway: &Gateway) -> (TcpStream, TcpStream) {
    let mut stream = TcpStream::connect(gateway.http()).unwrap();
    stream.write_all(&request_bytes("GET", "/open", &UPGRADE, b"")).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&head));
    (stream.try_clone().unwrap(), stream)
}

/// More than all buffers on the way hold together.
const MUCH: usize = 48 * 1024 * 1024;

fn say_much(stream: &mut impl Write) {
    let piece = [b'x'; 64 * 1024];
    (0..MUCH / piece.len()).for_each(|_| stream.write_all(&piece).unwrap());
}

/// An end that writes what it has read before it reads on, and another that reads as it writes.
#[test]
fn neither_direction_waits_for_the_other() {
    let echo = Upstream::start(|call| {
        call.send(SWITCHED);
        loop {
            let heard = call.receive();
            if heard.is_empty() || !call.send(heard) {
                return Flow::Close;
            }
        }
    });
    let gateway = start(&echo);
    let (mut reader, mut writer) = open(&gateway);
    let writing = thread::spawn(move || say_much(&mut writer));
    let mut back = vec![0; MUCH];
    reader.read_exact(&mut back).unwrap();
    writing.join().unwrap();
    reader.shutdown(Shutdown::Both).unwrap();

    // The other way round: the client is the one that echoes.
    let talker = Upstream::start(|call| {
        call.send(SWITCHED);
        let mut writer = call.stream();
        let writing = thread::spawn(move || say_much(&mut writer));
        let mut heard = 0;
        while heard < MUCH {
            let bytes = call.receive();
            assert!(!bytes.is_empty(), "the tunnel ended after {heard} bytes");
            heard += bytes.len();
        }
        writing.join().unwrap();
        Flow::Close
    });
    let gateway = start(&talker);
    let (mut reader, mut writer) = open(&gateway);
    let mut buffer = vec![0; 64 * 1024];
    let mut echoed = 0;
    while let Ok(read @ 1..) = reader.read(&mut buffer) {
        writer.write_all(&buffer[..read]).unwrap();
        echoed += read;
    }
    assert_eq!(echoed, MUCH);
}

/// Whatever the upstream makes of it.
#[test]
fn a_client_that_has_gone_leaves_no_tunnel_behind() {
    let deaf = Upstream::start(|call| {
        call.send(SWITCHED);
        // Hears the end, and stays.
        while !call.receive().is_empty() {}
        until_true("the gateway is gone", || !call.send("x"));
        Flow::Close
    });
    let limits = "[limits]\nbody_timeout = \"100ms\"\n";
    let gateway = Setup::tls(&format!("{limits}{TABLES}")).put("BACKEND", deaf.address()).start();
    let (stream, _other) = open(&gateway);
    stream.shutdown(Shutdown::Both).unwrap();
    drop((stream, _other));
    until_true("the upstream's side ends", || deaf.ended() == 1);
}
