//! How often a body is copied, told by what is allocated for it: a copy needs room. What the cipher and base64 must write
//! somewhere else is allowed, nothing beyond it.
//!
//! A program of its own with one test: the allocator counts for all threads.

use std::alloc::System;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use gapura_filters::{
    contract::Filter,
    crypto::jwe::{Enc, SealingKey, seal},
    encryption::context::MessageId,
};
use http::{Response, StatusCode};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::stage::{NOW, Stage, facts, fields, ready};

#[path = "strong_envelope/stage.rs"]
#[allow(dead_code)]
mod stage;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BODY: usize = 1 << 20;
const TEXT: usize = BODY / 3 * 4;
/// Keys, contexts, heads, names in memories.
const REST: usize = 24 << 10;

#[test]
fn a_body_is_copied_only_where_its_coding_needs_it() {
    let stage = Stage::with(
        json!({ "profile": ["hpke", "aes128gcm", "jwe", "cryptojs"], "replay": "off", "downgrade_lock": false }),
    );
    let body = format!("\"{}\"", "p".repeat(BODY - 2)).into_bytes();
    for (profile, fields, opening, sealing) in [
        // Opened where it was received, sealed into the response.
        ("hpke", fields("hpke"), 0, BODY),
        ("aes128gcm", fields("aes128gcm"), 0, BODY),
        // Out of base64; sealed, and into base64.
        ("jwe", vec![("content-type", "application/jose")], BODY, BODY + TEXT),
        // Out of base64, and opened there; sealed piece by piece into the text of the response.
        ("cryptojs", vec![("content-type", "application/json")], BODY, TEXT),
    ] {
        let message = match profile {
            "jwe" => jwe(&stage, &body),
            "cryptojs" => stage.founding(&body).into_bytes(),
            _ => stage.seal(profile, &body, &facts()).0,
        };
        // Twice: the first time, what is made once is made.
        for round in 0..2 {
            let (mut head, mut exchange) = stage.begin(&facts(), &fields, message.len()).unwrap();
            let mut received = Bytes::from(message.clone());
            let allocated = counted(|| {
                ready(stage.filter.on_request_body(&mut head, &mut received, &mut exchange)).expect("it opens");
            });
            assert!(received == body, "{profile}");
            let answer = Response::builder().status(StatusCode::OK).header("content-type", "application/json");
            let mut answer = answer.body(()).unwrap().into_parts().0;
            let answered = counted(|| {
                ready(stage.filter.on_response_body(&mut answer, &mut received, &mut exchange)).expect("it is sealed");
            });
            assert!(received.len() > BODY && received != body, "{profile}");
            if round == 1 {
                assert!((opening..opening + REST).contains(&allocated), "{profile}: opened with {allocated} bytes");
                assert!((sealing..sealing + REST).contains(&answered), "{profile}: sealed with {answered} bytes");
            }
        }
    }
}

fn counted(run: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    run();
    region.change().bytes_allocated
}

/// As a client with a session key would seal it.
fn jwe(stage: &Stage, body: &[u8]) -> Vec<u8> {
    let facts = facts();
    let (kid, key) = stage.session(&facts.user_id, &facts.token_id, NOW / 1000 + 600);
    let (path, query) = facts.target.split_once('?').unwrap();
    let members = json!({ "kid": kid, "cty": "application/json", "ctx": {
        "v": 1, "dir": "request", "method": facts.method, "authority": facts.authority, "path": path, "query": query,
        "sub": facts.user_id, "tid": facts.token_id, "iat": NOW, "id": URL_SAFE_NO_PAD.encode(MessageId::fresh().0), "part": "",
    }});
    seal(Enc::A256Gcm, SealingKey::Wrapping(&key), &members, body).unwrap().into_bytes()
}
