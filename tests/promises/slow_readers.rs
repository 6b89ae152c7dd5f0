//! A client that reads slowly, but reads, gets its whole answer: `body_timeout` is of one pause, not of the whole.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    envelopes::{TABLES, USER},
    support::{
        Setup, Upstream,
        credential::key_hash,
        h2::{self, H2},
        node::Sealer,
        token,
    },
};

/// Of one pause. A test client that is itself kept waiting for so long is on a machine that does nothing else either.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);
/// Of the whole, at least.
const WHOLE: Duration = Duration::from_secs(7);
const PIECE: usize = 32 * 1024;

#[test]
fn a_sealed_answer_arrives_whole_however_slowly_it_is_read() {
    let text = format!("\"{}\"", "large ".repeat(500_000));
    let answer = text.clone();
    let upstream = Upstream::start(move |call| {
        call.body();
        call.respond(200, &[("Content-Type", "application/json")], answer.as_bytes())
    });
    let limits = format!("[limits]\nbody_timeout = \"{}s\"\n", BODY_TIMEOUT.as_secs());
    let setup = Setup::tls(&format!("{limits}{TABLES}"));
    let gateway = setup.put("BACKEND", upstream.address()).put("CI", key_hash("key-of-ci")).start();
    let bearer = token();
    let fields = [
        (&b":method"[..], &b"GET"[..]),
        (b":scheme", b"https"),
        (b":authority", b"gateway.test"),
        (b":path", USER.as_bytes()),
        (b"authorization", bearer.as_bytes()),
    ];
    let mut client = H2::connect(gateway.https());
    client.send(&fields, None);
    // Base64 of the ciphertext, in an envelope.
    let length = text.len() * 4 / 3;
    let (start, mut body, mut taken) = (Instant::now(), Vec::new(), 0);
    loop {
        let frame = client.frame().unwrap_or_else(|| panic!("the gateway left after {} bytes", body.len()));
        match frame.kind {
            h2::HEADERS => assert_eq!(frame.payload.first(), Some(&0x88), "`:status: 200`"),
            h2::DATA => body.extend(&frame.payload),
            h2::RST_STREAM | h2::GOAWAY => panic!("after {} of about {length} bytes: {frame:?}", body.len()),
            _ => continue,
        }
        if frame.ends_stream() {
            break;
        }
        // The windows open piece by piece, each at its time of the whole.
        while body.len() - taken >= PIECE {
            taken += PIECE;
            let due = WHOLE.mul_f64((taken as f64 / length as f64).min(1.0));
            thread::sleep(due.saturating_sub(start.elapsed()));
            client.frames(&h2::window(0, PIECE));
            client.frames(&h2::window(1, PIECE));
        }
    }
    assert!(start.elapsed() > BODY_TIMEOUT, "it was not read slowly");
    let sealed = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error} in {} bytes", body.len()));
    assert!(Sealer::alice().open(&sealed) == text);
}
