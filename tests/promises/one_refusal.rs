//! Before a message has proved itself, whatever is wrong with it is answered with the same bytes: in each profile, and across
//! all of them. And nothing of it reaches an upstream.

use std::collections::BTreeMap;

use super::faults::{of_aes128gcm, of_hpke, of_jwe, of_rsa, of_the_founding_format};
use crate::support::{
    Answer, Gateway, Token, Upstream, expect_problem,
    messages::{Client, KINDS, Kind, Message, openssl, private_key, route, setup},
    problem::comparable,
    token,
};

pub const JSON: &str = r#"{"amount": 19.90, "to": "somebody else entirely"}"#;
pub const TARGET: &str = "/all/1?a=1";

/// What was sent, and what came of it.
pub struct Told<'g> {
    pub gateway: &'g Gateway,
    answers: Vec<(String, Answer)>,
}

impl Told<'_> {
    pub fn note(&mut self, what: impl Into<String>, answer: Answer) {
        self.answers.push((what.into(), answer));
    }

    pub fn send(&mut self, what: impl Into<String>, message: &Message) {
        self.note(what, message.send(self.gateway, "POST", TARGET));
    }

    /// A body of this message's kind.
    pub fn body(&mut self, what: impl Into<String>, of: &Message, body: impl AsRef<[u8]>) {
        let alice = token();
        let headers = [&[("Authorization", &*alice)], of.fields()].concat();
        self.note(what, self.gateway.request("POST", TARGET, &headers, body));
    }

    /// At least 30 faults, one answer. Gives it.
    #[track_caller]
    fn judge(self, profile: &str) -> String {
        let mut kinds: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (what, answer) in &self.answers {
            kinds.entry(comparable(answer)).or_default().push(what);
        }
        assert_eq!(kinds.len(), 1, "{profile} can be told apart: {kinds:#?}");
        assert!(self.answers.len() >= 30, "{profile}: {} faults", self.answers.len());
        expect_problem(&self.answers[0].1, 400, "DECRYPTION_FAILED");
        comparable(&self.answers[0].1)
    }
}

fn start(upstream: &Upstream) -> Gateway {
    let rsa = "keyrings = [\"partners\"]\nresponse_key = \"file:@DIR@/partner.pem\"";
    let tables = [
        "[keyrings.partners]\nkind = \"rsa\"\n\
         versions = [{ id = \"1\", key = \"file:@DIR@/rsa.pem\", state = \"active\" }]\n",
        &route(
            "all",
            "profile = [\"hpke\", \"jwe\", \"aes128gcm\"]\nkeyrings = [\"curves\", \"points\", \"sessions\"]",
        ),
        &route("rsa", &format!("profile = \"jwe-rsa\"\n{rsa}")),
        &route("founding", "profile = \"cryptojs\"\nmaster_key = \"env:MASTER_KEY\"\nmac = \"optional\""),
    ];
    let key = private_key(&["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let public = openssl(&["pkey", "-pubout"], &key);
    setup(&tables.concat(), upstream.address()).file("rsa.pem", key).file("partner.pem", public).start()
}

/// Faults that every strong profile knows: of bytes, of the request that the message is for, of its key.
pub fn common(told: &mut Told<'_>, client: &Client, kind: Kind) -> Message {
    let good = client.seal(kind, "POST", TARGET, JSON);
    let body = good.body();
    let end = body.len() - 1;
    for step in 0..=16 {
        let at = end * step / 16;
        let mut changed = body.clone();
        changed[at] = if kind.profile == "jwe" && changed[at] == b'A' { b'B' } else { changed[at] ^ 1 };
        told.body(format!("byte {at} of {end}"), &good, changed);
    }
    for cut in [1, 2, 25, end / 2, end] {
        told.body(format!("cut to {cut}"), &good, &body[..cut]);
    }
    told.body("a byte more", &good, [&body[..], b"A"].concat());
    told.note("another method", good.send(told.gateway, "PUT", TARGET));
    for target in ["/all/2?a=1", "/all/1", "/all/1?a=2", "/all/1?a=1&b", "/all/1?A=1"] {
        told.note(format!("sent to {target}"), good.send(told.gateway, "POST", target));
    }
    let bob = Token::new("u-1002").with("email", "bob@example.com").bearer();
    let headers = [&[("Authorization", &*bob)], good.fields()].concat();
    told.note("another caller", told.gateway.request("POST", TARGET, &headers, &body));
    let alice = token();
    let headers = [&[("Authorization", &*alice), ("Host", "other.test")], good.fields()].concat();
    told.note("another host", told.gateway.request("POST", TARGET, &headers, &body));
    let renewed = Token::alice().with("jti", "t-1").bearer();
    let headers = [&[("Authorization", &*renewed)], good.fields()].concat();
    told.note("another token", told.gateway.request("POST", TARGET, &headers, &body));
    for (name, value) in [
        ("method", "post"),
        ("authority", "gateway.test:80"),
        ("path", "/all/01"),
        ("query", ""),
        ("subject", "u-1001 "),
        ("tokenId", "t-1"),
        ("part", "/amount"),
    ] {
        let mut recipe = client.recipe(kind, "POST", TARGET, JSON);
        recipe["request"][name] = value.into();
        told.send(format!("{name} {value:?}"), &Message::made(kind, recipe));
    }
    for kid in ["", "nobody", "curves.0", "curves.2", "curves.1.1", "sessions.1", "sessions.1.", "sessions.1.0"] {
        let mut recipe = client.recipe(kind, "POST", TARGET, JSON);
        recipe["kid"] = kid.into();
        told.send(format!("kid {kid:?}"), &Message::made(kind, recipe));
    }
    for (what, content_type, content) in [
        ("no JSON", "application/json", "{\"amount\":"),
        ("JSON without its type", "", JSON),
        ("a type and nothing", "application/json", ""),
    ] {
        // In this coding the type stands in the head, and so is always there; where it tells nothing, it is not asked.
        if kind.profile == "aes128gcm" && what != "no JSON" {
            continue;
        }
        let mut recipe = client.recipe(kind, "POST", TARGET, content);
        recipe["contentType"] = content_type.into();
        told.send(what, &Message::made(kind, recipe));
    }
    // In the head a message has no content.
    told.note("content in the header", good.send_alone(told.gateway, "POST", TARGET));
    good
}

#[test]
fn whatever_is_wrong_is_answered_with_the_same_bytes_in_every_profile() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let client = Client::of(&gateway, "/all/1");
    let new = || Told { gateway: &gateway, answers: Vec::new() };
    let mut seen = Vec::new();
    for kind in KINDS {
        let mut told = new();
        match kind.profile {
            "hpke" => of_hpke(&mut told, &client, kind),
            "jwe" => of_jwe(&mut told, &client, kind),
            _ => of_aes128gcm(&mut told, &client, kind),
        }
        seen.push(told.judge(&format!("{kind:?}")));
    }
    let mut told = new();
    of_the_founding_format(&mut told);
    seen.push(told.judge("cryptojs"));
    upstream.expect_untouched();
    let mut told = new();
    of_rsa(&mut told);
    seen.push(told.judge("jwe-rsa"));
    assert_eq!(upstream.requests().len(), 1, "the good one of the partner");
    for kind in KINDS {
        assert_eq!(client.seal(kind, "POST", TARGET, JSON).send(&gateway, "POST", TARGET).status, 200, "{kind:?}");
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "the profiles can be told apart: {seen:#?}");
}
