//! What can be wrong with a message of each profile: see [`super::one_refusal`].

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::one_refusal::{JSON, TARGET, Told, common};
use crate::support::{
    credential::now_ms,
    messages::{Client, Kind, Message, openssl, private_key},
    node::Sealer,
    python, token,
};

pub fn of_hpke(told: &mut Told<'_>, client: &Client, kind: Kind) {
    let good = common(told, client, kind);
    let low_order = URL_SAFE_NO_PAD.encode(if kind.ring == "curves" { vec![0; 32] } else { vec![0; 65] });
    let off_curve =
        URL_SAFE_NO_PAD.encode(if kind.ring == "curves" { vec![1; 32] } else { [&[4][..], &[1; 64]].concat() });
    for (what, over) in [
        ("version", json!({"version": 2})),
        ("another KEM", json!({"kem": 0x11})),
        ("the other KEM", json!({"kem": if kind.ring == "curves" { 0x10 } else { 0x20 }})),
        ("another KDF", json!({"kdf": 3})),
        ("AES-128", json!({"aead": 1})),
        ("export only", json!({"aead": 0xFFFF})),
        ("another info", json!({"info": "gapura hpke v2\0"})),
        ("a point of low order", json!({"enc": low_order})),
        ("a point of nowhere", json!({"enc": off_curve})),
        ("no point", json!({"enc": ""})),
    ] {
        let mut recipe = client.recipe(kind, "POST", TARGET, JSON);
        recipe["over"] = over;
        told.send(what, &Message::made(kind, recipe));
    }
    told.body("a header alone", &good, &good.body()[..60]);
}

pub fn of_aes128gcm(told: &mut Told<'_>, client: &Client, kind: Kind) {
    let good = common(told, client, kind);
    let kid = client.session["kid"].as_str().unwrap();
    let (iat, id) = (now_ms(), "AAAAAAAAAAAAAAAAAAAAAA");
    let later = kid.rsplit_once('.').map(|(name, end)| format!("{name}.{}", end.parse::<u64>().unwrap() + 1)).unwrap();
    let far = format!("sessions.1.{}", iat / 1000 + 100_000);
    for key_id in [
        String::new(),
        kid.to_owned(),
        format!("{kid}~{iat}"),
        format!("{kid}~~{id}"),
        format!("{kid}~0{iat}~{id}"),
        format!("{kid}~-1~{id}"),
        format!("{kid}~{iat}~"),
        format!("{kid}~{iat}~{id}A"),
        format!("{kid}~{iat}~{id}~"),
        format!("{kid}~{iat}~AAAAAAAAAAAAAAAAAAAAAB"),
        format!("{later}~{iat}~{id}"),
        format!("{far}~{iat}~{id}"),
        format!("sessions.1.{}~{iat}~{id}", iat / 1000 - 1),
        format!("sessions.2.{}~{iat}~{id}", iat / 1000 + 60),
        format!("{}~{iat}~{id}", kid.replace("sessions.1.", "sessions.1.0")),
        format!("curves.1~{iat}~{id}"),
        "~~".into(),
        "~".repeat(255),
    ] {
        let mut recipe = client.recipe(kind, "POST", TARGET, JSON);
        recipe["over"] = json!({"keyid": key_id});
        told.send(format!("key id {key_id:?}"), &Message::made(kind, recipe));
    }
    // Records of 50 bytes, behind what they begin with.
    let body = good.body();
    let start = 21 + usize::from(body[20]);
    assert!(body.len() > start + 50, "it has several records");
    let (head, first, rest) = (&body[..start], &body[start..start + 50], &body[start + 50..]);
    for (what, bytes) in [
        ("no record", head.to_vec()),
        ("the last record is missing", [head, first].concat()),
        ("the first record is missing", [head, rest].concat()),
        ("a record twice", [head, first, first, rest].concat()),
        ("another order", [head, rest, first].concat()),
        ("records behind the last", [&body[..], first].concat()),
    ] {
        told.body(what, &good, bytes);
    }
    for size in [0_u32, 1, 17, 18, 49, 51, (1 << 20) + 1, u32::MAX] {
        let mut changed = body.clone();
        changed[16..20].copy_from_slice(&size.to_be_bytes());
        told.body(format!("records of {size}"), &good, changed);
    }
    // What the content is said to be is part of the key.
    let headers =
        [("Authorization", &*token()), ("Content-Type", "application/json; a=b"), ("Content-Encoding", "aes128gcm")];
    told.note("another content type", told.gateway.request("POST", TARGET, &headers, &body));
}

pub fn of_jwe(told: &mut Told<'_>, client: &Client, kind: Kind) {
    let good = common(told, client, kind);
    let made = |over: Value| {
        let mut recipe = client.recipe(kind, "POST", TARGET, JSON);
        recipe["over"] = over;
        Message::made(kind, recipe)
    };
    for over in [
        json!({"header": {"typ": "JOSE"}}),
        json!({"header": {"iat": 1}}),
        json!({"header": {"cty": 7}}),
        json!({"header": {"kid": 7}}),
        json!({"header": {"ctx": {}}}),
        json!({"header": {"ctx": []}}),
        json!({"header": {"jku": "https://evil.example"}}),
        json!({"header": {"enc": "A128GCM"}}),
        json!({"header": {"enc": "A256CBC-HS512"}}),
        json!({"ctx": {"v": 2}}),
        json!({"ctx": {"v": "1"}}),
        json!({"ctx": {"dir": "response"}}),
        json!({"ctx": {"more": 1}}),
        json!({"ctx": {"iat": "1"}}),
        json!({"ctx": {"iat": 1.5}}),
        json!({"ctx": {"iat": -1}}),
        json!({"ctx": {"id": "AAAAAAAAAAAAAAAAAAAAAB"}}),
        json!({"ctx": {"id": ""}}),
        json!({"ctx": {"sub": 7}}),
        json!({"ctx": {"rpk": 7}}),
        json!({"ctx": {"rpk": {"kty": "OKP", "crv": "Ed25519", "x": "AA"}}}),
        json!({"ctx": {"rpk": {"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)}}}),
        json!({"without": ["kid"]}),
        json!({"without": ["ctx"]}),
        json!({"without": ["method"]}),
        json!({"without": ["id"]}),
    ] {
        told.send(over.to_string(), &made(over));
    }
    // By hand, as no library writes it. The tag is wrong in all of them, which must not show.
    let (header, rest) = good.text.split_once('.').unwrap();
    let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut header = json.clone();
        header[name] = value;
        header.to_string()
    };
    let text = json.to_string();
    for written in [
        with("alg", "none".into()),
        with("alg", "dir".into()),
        with("alg", "RSA1_5".into()),
        with("alg", "PBES2-HS256+A128KW".into()),
        with("alg", if kind.ring == "sessions" { "ECDH-ES" } else { "A256KW" }.into()),
        with("alg", Value::Null),
        with("zip", "DEF".into()),
        with("crit", json!(["ctx"])),
        with("epk", json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"})),
        with("epk", json!({"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)})),
        format!("{},\"alg\":\"A256KW\"}}", &text[..text.len() - 1]),
        format!(" {text}"),
        text[..text.len() - 1].to_owned(),
        "[]".into(),
        "{}".into(),
        String::new(),
        "[".repeat(2000),
    ] {
        told.send(written.clone(), &good.with_text(format!("{}.{rest}", URL_SAFE_NO_PAD.encode(written))));
    }
    let parts: Vec<&str> = good.text.split('.').collect();
    for text in [
        parts[..4].join("."),
        [&parts[..], &["AAAA"]].concat().join("."),
        format!("{}=", good.text),
        format!(" {}", good.text),
        format!("{}\n", good.text),
        "....".into(),
        json!({"protected": parts[0], "encrypted_key": parts[1], "iv": parts[2], "ciphertext": parts[3], "tag": parts[4]})
            .to_string(),
    ] {
        told.send(text.clone(), &good.with_text(text));
    }
}

pub fn of_rsa(told: &mut Told<'_>) {
    let file = |name: &str| told.gateway.directory().join(name).display().to_string();
    let public = String::from_utf8(openssl(&["pkey", "-pubout", "-in", &file("rsa.pem")], b"")).unwrap();
    let foreign = private_key(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let foreign = String::from_utf8(openssl(&["pkey", "-pubout"], &foreign)).unwrap();
    let header = json!({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "partners.1", "iat": now_ms()});
    let seal = |header: &Value, text: &str, key: &str| {
        python::call("jweEncrypt", json!({"header": header, "text": text, "key": key}))
    };
    let mut bad = vec![seal(&header, JSON, &foreign), seal(&header, "{\"amount\":", &public)];
    for over in [
        json!({"alg": "RSA-OAEP"}),
        json!({"alg": "RSA1_5"}),
        json!({"enc": "A256CBC-HS512"}),
        json!({"kid": "partners.2"}),
        json!({"kid": "curves.1"}),
        json!({"kid": ""}),
        json!({"iat": "now"}),
        json!({"iat": 1.5}),
        json!({"iat": ""}),
        json!({"iat": null}),
        json!({"more": 1}),
        json!({"x5u": "https://evil.example"}),
    ] {
        let mut header = header.clone();
        header.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        bad.push(seal(&header, JSON, &public));
    }
    for absent in ["kid", "iat"] {
        let mut header = header.clone();
        header.as_object_mut().unwrap().remove(absent);
        bad.push(seal(&header, JSON, &public));
    }
    let good = seal(&header, JSON, &public);
    let parts: Vec<&str> = good.split('.').collect();
    for (at, part) in parts.iter().enumerate() {
        for place in [0, part.len() / 2] {
            let other = if part.as_bytes()[place] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &part[..place], &part[place + 1..]);
            let mut parts = parts.clone();
            parts[at] = &changed;
            bad.push(parts.join("."));
        }
    }
    for key in ["", "AAAA", &"A".repeat(parts[1].len()), &parts[1][..parts[1].len() - 4]] {
        bad.push([parts[0], key, parts[2], parts[3], parts[4]].join("."));
    }
    // A content key of another length than `enc` takes, wrapped well.
    std::fs::write(file("public.pem"), &public).unwrap();
    for length in [0, 1, 16, 31, 33, 64] {
        let arguments = "pkeyutl -encrypt -pubin -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -inkey";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let wrapped = openssl(&[&arguments[..], &[&file("public.pem")]].concat(), &vec![7; length]);
        bad.push([parts[0], &URL_SAFE_NO_PAD.encode(wrapped), parts[2], parts[3], parts[4]].join("."));
    }
    let headers = [("Authorization", &*token()), ("Content-Type", "application/jose")];
    for message in bad {
        let answer = told.gateway.request("POST", "/rsa/1", &headers, &message);
        told.note(message, answer);
    }
    let answer = told.gateway.request("POST", "/rsa/1", &headers, &good);
    assert_eq!(answer.status, 200, "{}", answer.lossy());
}

/// The founding format, whose key is known to be the caller's: what is wrong with its ciphertext, or with its MAC.
pub fn of_the_founding_format(told: &mut Told<'_>) {
    let good = Sealer::alice().seal(JSON);
    let bytes = STANDARD.decode(good["encryptedData"].as_str().unwrap()).unwrap();
    let with = |bytes: &[u8]| {
        let mut envelope = good.clone();
        envelope["encryptedData"] = STANDARD.encode(bytes).into();
        envelope.to_string()
    };
    let mut bad: Vec<(String, String, String)> = Vec::new();
    for at in (0..bytes.len()).step_by(4) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        bad.push((format!("byte {at}"), with(&changed), String::new()));
    }
    for cut in [0, 8, 16, 17, bytes.len() - 16, bytes.len() - 1] {
        bad.push((format!("cut to {cut}"), with(&bytes[..cut]), String::new()));
    }
    let kid = &good["keyHash"].as_str().unwrap()[..16];
    let mac = |kid: &str, ts: &str, n: &str| format!("v=1;kid={kid};ts={ts};n={n};mac={}", "A".repeat(43));
    let (ts, n) = (now_ms().to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    for header in [
        mac(kid, &ts, n),
        mac(kid, "0", n),
        mac(kid, &format!("0{ts}"), n),
        mac(kid, &ts, "AAAA"),
        mac("0000000000000000", &ts, n),
        mac("", &ts, n),
        mac(kid, &ts, n).replace("v=1", "v=2"),
        mac(kid, &ts, n).replace(';', "; "),
        mac(kid, &ts, n).trim_end_matches('A').to_owned(),
        "v=1".into(),
        "x".repeat(4000),
    ] {
        bad.push((format!("MAC {header}"), good.to_string(), header));
    }
    for (what, body, mac) in bad {
        let authorization = token();
        let mut headers = vec![("Authorization", &*authorization), ("Content-Type", "application/json")];
        if !mac.is_empty() {
            headers.push(("X-Gapura-Mac", &mac));
        }
        let answer = told.gateway.request("POST", "/founding/1", &headers, body);
        told.note(what, answer);
    }
}
