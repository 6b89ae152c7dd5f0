//! Bodies that are clear but for some members, through the real gateway: whatever profile seals them, the application sees JSON,
//! and what it answers is sealed member by member, errors too.

use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Upstream,
    credential::now_ms,
    expect_problem,
    messages::{Client, KINDS, Kind, Message, route, setup},
    node::Sealer,
    token,
};

const NUMBER: &str = "/card/number";
const CVV: &str = "/card/cvv";

fn start(upstream: &Upstream) -> Gateway {
    let members = "members = [\"/card/number\", \"/card/cvv\"]";
    let strong = "keyrings = [\"curves\", \"points\", \"sessions\"]";
    let founding = "master_key = \"env:MASTER_KEY\"";
    let tables = [
        route("fields", &format!("profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\n{strong}\n{members}")),
        route(
            "lenient",
            &format!(
                "profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\n{strong}\n{members}\nrequired = false\ndowngrade_lock = false"
            ),
        ),
        route("founding", &format!("profile = \"cryptojs\"\n{founding}\n{members}")),
        route("relaxed", &format!("profile = \"cryptojs\"\n{founding}\n{members}\nrequired = false")),
        route("both", &format!("profile = [\"hpke\", \"cryptojs\"]\nkeyrings = [\"curves\"]\n{founding}\n{members}")),
    ];
    setup(&tables.concat(), upstream.address()).start()
}

/// Answers with the status that the path ends with, and a document with both members; below `text` and `plain` with others.
fn upstream() -> Upstream {
    Upstream::start(|call| {
        call.body();
        let path = call.heard.target.split('?').next().unwrap_or_default().to_owned();
        let status = path.rsplit('/').next().and_then(|status| status.parse().ok()).unwrap_or(200);
        let (content_type, body) = match path.split('/').nth(2) {
            Some("text") => ("text/plain", "declined"),
            Some("without") => ("application/json", r#"{"ok": true}"#),
            Some("twice") => ("application/json", r#"{"card": {"cvv": 1, "cvv": 2}}"#),
            Some("broken") => ("application/json", r#"{"card": {"cvv": "#),
            Some("bare") => ("", ANSWER),
            Some("problem") => ("application/problem+json", ANSWER),
            _ => ("application/json", ANSWER),
        };
        let fields = [("Content-Type", content_type)];
        call.respond(status, if content_type.is_empty() { &[] } else { &fields }, body.as_bytes())
    })
}

const ANSWER: &str = r#"{ "ok": 1.50, "card" : {"cvv": [1, {}], "number":"4111 **"}, "note": "Zoë" }"#;

fn body(number: &str, cvv: &str) -> String {
    format!(r#"{{ "amount":1.50, "card" : {{"cvv":{cvv} , "number": {number}}}, "note":"{}" }}"#, "Zoë")
}

#[track_caller]
fn post(gateway: &Gateway, target: &str, body: &str) -> Answer {
    gateway.request("POST", target, &[("Authorization", &token()), ("Content-Type", "application/json")], body)
}

fn quoted(message: &Message) -> String {
    format!("\"{}\"", message.text)
}

/// The document is [`ANSWER`], its members sealed in answer to this message.
#[track_caller]
fn expect_sealed(answer: &Answer, to: &Message) {
    let sealed = answer.json();
    let text = |name: &str| sealed["card"][name].as_str().unwrap_or_else(|| panic!("{sealed}")).to_owned();
    let (number, cvv) = (text("number"), text("cvv"));
    let around = ANSWER.replace("\"4111 **\"", &format!("\"{number}\"")).replace("[1, {}]", &format!("\"{cvv}\""));
    assert_eq!(answer.text(), around, "all other bytes stay");
    for (part, sealed, content) in [(NUMBER, &number, "\"4111 **\""), (CVV, &cvv, "[1, {}]")] {
        let opened = to.open_text(sealed, answer.status, part);
        assert_eq!(opened, Ok((content.to_owned(), "application/json".to_owned())), "{:?} {part}", to.kind);
        assert!(to.open_text(sealed, answer.status, if part == CVV { NUMBER } else { CVV }).is_err(), "{part}");
        assert!(to.open_text(sealed, answer.status ^ 1, part).is_err(), "{part}");
    }
}

#[test]
fn each_profile_seals_members_both_ways() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/fields/1");
    for kind in KINDS {
        // Errors of the application, and a problem of its own, are sealed as success is.
        for target in ["/fields/as/200", "/fields/as/402?a=b", "/fields/problem/500", "/fields/bare/404"] {
            let number = client.seal_member(kind, "POST", target, NUMBER, "\"4111 1111\"");
            let cvv = client.seal_member(kind, "POST", target, CVV, " 123");
            let answer = post(&gateway, target, &body(&quoted(&number), &quoted(&cvv)));
            assert!(target.contains(&format!("/{}", answer.status)), "{kind:?} {target}: {}", answer.lossy());
            let heard = upstream.last();
            assert_eq!(heard.text(), body("\"4111 1111\"", " 123"), "{kind:?}");
            assert_eq!(heard.header("content-type"), Some("application/json"));
            assert_eq!(heard.header("content-length"), Some(&*heard.body.len().to_string()));
            // To the first that is listed, wherever it stands.
            expect_sealed(&answer, &number);
            assert!(cvv.open_text(answer.json()["card"]["number"].as_str().unwrap(), answer.status, NUMBER).is_err());
        }
        // With only the second, that one is answered.
        let cvv = client.seal_member(kind, "POST", "/fields/as/200", CVV, "{\"a\":[]}");
        let answer = post(&gateway, "/fields/as/200", &format!(r#"{{"card":{{"cvv":{}}}}}"#, quoted(&cvv)));
        assert_eq!(upstream.last().text(), r#"{"card":{"cvv":{"a":[]}}}"#);
        expect_sealed(&answer, &cvv);
    }
}

#[test]
fn what_holds_no_listed_member_passes_as_it_is() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/fields/1");
    for kind in KINDS {
        for (target, expected) in
            [("/fields/text/402", "declined"), ("/fields/without/404", r#"{"ok": true}"#), ("/fields/as/204", "")]
        {
            let number = client.seal_member(kind, "POST", target, NUMBER, "1");
            let answer = post(&gateway, target, &format!(r#"{{"card":{{"number":{}}}}}"#, quoted(&number)));
            assert_eq!((answer.text(), answer.header("content-encoding")), (expected, None), "{kind:?} {target}");
        }
        // A body that cannot be told apart does not leave.
        for target in ["/fields/twice/200", "/fields/broken/200"] {
            let number = client.seal_member(kind, "POST", target, NUMBER, "1");
            let answer = post(&gateway, target, &format!(r#"{{"card":{{"number":{}}}}}"#, quoted(&number)));
            expect_problem(&answer, 502, "UPSTREAM_UNAVAILABLE");
        }
        // Without a body, and with one that has none of them, a message in the head is answered.
        let message = client.seal(kind, "GET", "/fields/as/200", "");
        expect_sealed(&message.send_alone(&gateway, "GET", "/fields/as/200"), &message);
        let message = client.seal(kind, "POST", "/fields/as/402", "");
        let headers = [
            ("Authorization", &*token()),
            ("Content-Type", "application/json"),
            ("X-Gapura-Envelope", &*message.field()),
        ];
        let answer = gateway.request("POST", "/fields/as/402", &headers, r#"{"card":null}"#);
        assert_eq!((&*upstream.last().text(), upstream.last().header("x-gapura-envelope")), (r#"{"card":null}"#, None));
        expect_sealed(&answer, &message);
    }
}

#[test]
fn a_member_opens_in_its_place_once() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/fields/1");
    let target = "/fields/as/200";
    for kind in KINDS {
        let seal = |part: &str| client.seal_member(kind, "POST", target, part, "\"4111\"");
        let (number, cvv, whole) = (seal(NUMBER), seal(CVV), client.seal(kind, "POST", target, "\"4111\""));
        let elsewhere = client.seal_member(kind, "POST", "/fields/as/201", NUMBER, "\"4111\"");
        let escaped = format!("\"\\u{:04x}{}\"", number.text.as_bytes()[0], &number.text[1..]);
        for (what, body, code) in [
            ("swapped", body(&quoted(&cvv), &quoted(&number)), "DECRYPTION_FAILED"),
            ("of a whole body", body(&quoted(&whole), &quoted(&cvv)), "DECRYPTION_FAILED"),
            ("of another request", body(&quoted(&elsewhere), &quoted(&cvv)), "DECRYPTION_FAILED"),
            ("in clear", body("\"4111\"", &quoted(&cvv)), "ENVELOPE_REQUIRED"),
            ("a number", body("4111", &quoted(&cvv)), "ENVELOPE_REQUIRED"),
            ("in clear, with dots", body("\"a.b.c.d.e\"", &quoted(&cvv)), "ENVELOPE_REQUIRED"),
            ("null", body(&quoted(&seal(NUMBER)), "null"), "ENVELOPE_REQUIRED"),
            ("twice", format!(r#"{{"card":{{"number":{0},"number":{0}}}}}"#, quoted(&number)), "ENVELOPE_REQUIRED"),
            ("escaped", body(&escaped, &quoted(&cvv)), "ENVELOPE_REQUIRED"),
            ("no JSON", body(&quoted(&number), "\"").replace(" }", ""), "ENVELOPE_REQUIRED"),
            ("none of them", "{}".into(), "ENVELOPE_REQUIRED"),
        ] {
            let answer = post(&gateway, target, &body);
            assert_eq!(answer.json()["code"], code, "{kind:?}, {what}: {}", answer.lossy());
        }
        assert_eq!(upstream.requests().len(), 0, "{kind:?}");
        // None of these used it up; passing does, in whatever body it comes again.
        let once = format!(r#"{{"card":{{"number":{}}}}}"#, quoted(&number));
        assert_eq!(post(&gateway, target, &once).status, 200, "{kind:?}");
        expect_problem(&post(&gateway, target, &once), 409, "ENVELOPE_REPLAYED");
        expect_problem(&post(&gateway, target, &body(&quoted(&number), &quoted(&seal(CVV)))), 409, "ENVELOPE_REPLAYED");
        upstream.forget();
    }
}

/// While clients move, a text is content in clear unless it is a message from outside, whatever dots and letters it has.
#[test]
fn where_plaintext_may_pass_any_text_is_content() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/fields/1");
    let target = "/lenient/as/200";
    for text in ["\"19.90\"", "\"a.b@example.com\"", "\"a.b.c.d.e\"", "\"Zm9v\"", "\"\"", "1.5", "null", "{\"a\":1}"] {
        let answer = post(&gateway, target, &body(text, "\"1.1\""));
        assert_eq!((answer.status, answer.text()), (200, ANSWER), "{text}");
        assert_eq!(upstream.last().text(), body(text, "\"1.1\""), "{text}");
    }
    for kind in KINDS {
        let mut bad = client.seal_member(kind, "POST", target, CVV, "1");
        expect_problem(&post(&gateway, target, &body(&quoted(&bad), "1")), 400, "DECRYPTION_FAILED");
        bad = client.seal_member(kind, "POST", target, NUMBER, "1");
        expect_sealed(&post(&gateway, target, &body(&quoted(&bad), "1.5")), &bad);
    }
}

#[test]
fn of_the_founding_format_a_member_is_the_object() {
    let upstream = upstream();
    let gateway = start(&upstream);
    let alice = Sealer::alice();
    for target in ["/founding/as/200", "/founding/as/402", "/founding/problem/500"] {
        let (number, cvv) = (alice.seal("\"4111 1111\""), alice.seal("123"));
        let answer = post(&gateway, target, &body(&number.to_string(), &cvv.to_string()));
        assert_eq!(upstream.last().text(), body("\"4111 1111\"", "123"));
        let sealed = answer.json();
        assert_eq!(alice.open(&sealed["card"]["number"]), "\"4111 **\"");
        assert_eq!(alice.open(&sealed["card"]["cvv"]), "[1, {}]");
        assert_eq!((&sealed["ok"], &sealed["note"]), (&json!(1.5), &json!("Zoë")));
        let clear = post(&gateway, target, &body(&alice.seal("1").to_string(), "1"));
        expect_problem(&clear, 400, "ENVELOPE_REQUIRED");
        let again = post(&gateway, target, &body(&number.to_string(), &alice.seal("1").to_string()));
        expect_problem(&again, 409, "ENVELOPE_REPLAYED");
    }
    // Where plaintext may pass, what begins as an envelope and is none does not; as with whole bodies.
    let sealed = alice.seal("1");
    let mut torn = sealed.clone();
    torn.as_object_mut().unwrap().remove("keyHash");
    let target = "/relaxed/as/200";
    expect_problem(&post(&gateway, target, &body(&torn.to_string(), "1")), 400, "ENVELOPE_REQUIRED");
    assert_eq!(post(&gateway, target, &body("{\"a\":1}", &sealed.to_string())).status, 200);
    assert_eq!(upstream.last().text(), body("{\"a\":1}", "1"));
    // Without a body the caller's key is known all the same.
    let answer = gateway.request("GET", "/founding/as/200", &[("Authorization", &token())], b"");
    assert_eq!(alice.open(&answer.json()["card"]["number"]), "\"4111 **\"");
}

/// An envelope that is put beside a stronger one must not decide how the answer is sealed, whichever is listed first.
#[test]
fn the_strongest_member_decides_how_the_answer_is_sealed() {
    const HPKE: Kind = KINDS[0];
    let upstream = upstream();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/fields/1");
    let founding = Sealer::alice().seal_at("\"old\"", now_ms()).to_string();
    let target = "/both/as/200";
    let cvv = client.seal_member(HPKE, "POST", target, CVV, "1");
    let answer = post(&gateway, target, &body(&founding, &quoted(&cvv)));
    assert_eq!(answer.status, 200, "{}", answer.lossy());
    expect_sealed(&answer, &cvv);
    let founding: Value = Sealer::alice().seal("\"old\"");
    let cvv = client.seal_member(HPKE, "POST", target, CVV, "1");
    let answer = post(&gateway, target, &body(&founding.to_string(), &quoted(&cvv)));
    expect_problem(&answer, 400, "ENVELOPE_REQUIRED");
}
