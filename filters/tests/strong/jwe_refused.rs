//! Profile `jwe`: one refusal for whatever is wrong.

use gapura_filters::{
    contract::Code,
    crypto::{
        Curve,
        jwe::{Enc, SealingKey, seal},
    },
    keyring::SessionKey,
};
use serde_json::{Value, json};

use super::{
    jwe::{BODY, Client, JOSE, ephemeral, session, stage, under_session},
    stage::{HOLDER, NOW, Stage, told},
};

#[test]
fn whatever_is_wrong_with_a_message_reads_the_same() {
    let stage = stage();
    let client = Client::new(&stage, "points", Curve::P256);
    let session = session(&stage, 600);
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut header = client.header();
        change(&mut header);
        bad.push((name.to_owned(), client.seal(&header, BODY)));
    };
    // Of another request, in each member.
    for (name, other) in [
        ("method", json!("PUT")),
        ("method", json!("post")),
        ("authority", json!("api.example:443")),
        ("authority", json!("API.example")),
        ("path", json!("/payments/2")),
        ("path", json!("/payments/1/")),
        ("query", json!("")),
        ("query", json!("?dry=1")),
        ("sub", json!("u2")),
        ("tid", json!("t-2")),
        ("tid", json!("")),
        ("part", json!("/card")),
        ("v", json!(2)),
        ("v", json!("1")),
        ("dir", json!("response")),
        ("iat", json!(NOW.to_string())),
        ("iat", json!(NOW as f64 + 0.5)),
        ("iat", json!(-1)),
        ("id", json!("AAAAAAAAAAAAAAAAAAAAAB")),
        ("id", json!("AAAA")),
        ("id", json!(7)),
        ("rpk", Value::Null),
        ("rpk", json!({ "kty": "OKP", "crv": "X25519", "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" })),
        ("more", json!(1)),
    ] {
        changed(&format!("ctx.{name} = {other}"), &|header| header["ctx"][name] = other.clone());
    }
    for name in ["v", "dir", "method", "authority", "path", "query", "sub", "tid", "iat", "id", "part", "rpk"] {
        changed(&format!("no ctx.{name}"), &|header| drop(header["ctx"].as_object_mut().unwrap().remove(name)));
    }
    changed("no ctx", &|header| drop(header.as_object_mut().unwrap().remove("ctx")));
    changed("no kid", &|header| drop(header.as_object_mut().unwrap().remove("kid")));
    changed("no cty", &|header| drop(header.as_object_mut().unwrap().remove("cty")));
    for (name, value) in [
        ("kid", json!("points.2")),
        ("kid", json!("points")),
        ("kid", json!("bodies.1")),
        ("kid", json!("partners.1")),
        ("kid", json!("sessions.1")),
        ("kid", json!(session.0)),
        ("kid", json!("")),
        ("crit", json!(["exp"])),
        ("zip", json!("DEF")),
        ("jku", json!("https://evil.example")),
        ("typ", json!("JWE")),
        ("iat", json!(NOW)),
    ] {
        changed(&format!("{name} = {value}"), &|header| header[name] = value.clone());
    }
    // Other algorithms, keys and contents.
    let header = client.header();
    let with = |enc, key| seal(enc, key, &header, BODY).unwrap();
    bad.push(("A128GCM".into(), with(Enc::A128Gcm, SealingKey::Agreement(&client.public))));
    bad.push(("A256CBC-HS512".into(), with(Enc::A256CbcHs512, SealingKey::Agreement(&client.public))));
    bad.push(("dir".into(), with(Enc::A256Gcm, SealingKey::Direct(&[7; 32]))));
    bad.push(("A256KW, no session".into(), with(Enc::A256Gcm, SealingKey::Wrapping(&[7; 32]))));
    bad.push(("A128KW".into(), with(Enc::A256Gcm, SealingKey::Wrapping(&[7; 16]))));
    let other = ephemeral(Curve::P256);
    bad.push(("another key".into(), with(Enc::A256Gcm, SealingKey::Agreement(&other.public))));
    let other = ephemeral(Curve::X25519);
    bad.push(("another curve".into(), with(Enc::A256Gcm, SealingKey::Agreement(&other.public))));
    for content in [&b"{\"a\":1"[..], b"not json", b"\xff", b"{\"a\":1}{}", b""] {
        bad.push((format!("content {content:?}"), client.seal(&header, content)));
    }
    // Session keys that are over, not yet thinkable, or somebody else's.
    let of = |seconds| session_at(&stage, NOW / 1000 + seconds);
    for (name, key) in [("ended", of(0)), ("too far", of(15 * 60 + 61))] {
        bad.push((format!("session {name}"), under_session(&stage, &key, BODY)));
    }
    let kid = session.0.clone();
    for wrong in
        [kid.replace("sessions.1.", "sessions.1.0"), kid.replace("sessions.1", "sessions.2"), format!("{kid}.")]
    {
        bad.push((format!("session {wrong}"), under_session(&stage, &(wrong, session.1.clone()), BODY)));
    }
    let mut with_rpk = json!({ "kid": kid, "cty": "application/json", "ctx": stage.ctx() });
    with_rpk["ctx"]["rpk"] = client.reply.public.members().into();
    bad.push((
        "session with rpk".into(),
        seal(Enc::A256Gcm, SealingKey::Wrapping(session.1.bytes()), &with_rpk, BODY).unwrap(),
    ));
    // And in its spelling.
    let good = client.message();
    for (name, text) in [
        ("cut", good[..good.len() - 1].to_owned()),
        ("padded", format!("{good}=")),
        ("blank", format!("{good} ")),
        ("six parts", format!("{good}.")),
        ("four parts", good[..good.rfind('.').unwrap()].to_owned()),
        ("JSON", json!({ "ciphertext": good }).to_string()),
        ("nothing", ".".into()),
        ("not ASCII", "é.....".into()),
    ] {
        bad.push((name.into(), text));
    }
    let mut seen: Option<(Code, String)> = None;
    let count = bad.len() as u64;
    for (name, message) in bad {
        let told = told(stage.post(JOSE, message));
        assert_eq!(told.0, Code::DecryptionFailed, "{name}");
        assert_eq!(seen.get_or_insert(told.clone()), &told, "{name}");
    }
    assert_eq!(stage.metrics.decryptions.with_label_values(&["payments", "failed"]).get(), count);
    assert!(count > 75, "{count}");
    assert!(stage.post(JOSE, good).is_ok());
}

fn session_at(stage: &Stage, expiry: u64) -> (String, SessionKey) {
    stage.ring("sessions").new_session_key(HOLDER, expiry, NOW).unwrap()
}

#[test]
fn any_changed_byte_is_refused() {
    let stage = stage();
    let client = Client::new(&stage, "points", Curve::P256);
    let good = client.message();
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(told(stage.post(JOSE, changed)).0, Code::DecryptionFailed, "{at}");
    }
    assert!(stage.post(JOSE, good).is_ok());
}
