//! Client certificates, bound tokens, assertions, operation tokens.

use super::{ANYWHERE, Case, check_all, error, warning};

macro_rules! mtls {
    ($table:literal) => {
        concat!("[tls]\nself_signed = true\nclient_ca = \"c\"\n[mtls.s]\n", $table)
    };
}
macro_rules! operation {
    ($table:literal, $using:literal) => {
        concat!(
            "[[routes]]\nname = \"a\"\npath = \"/a/{id}\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nissues = \"p\"\n\
             [[routes]]\nname = \"b\"\npath = \"/b/{id}\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nrequires = \"p\"\n",
            $using,
            "[operation_tokens.p]\nkey = \"env:O\"\n",
            $table
        )
    };
}

#[rustfmt::skip]
const CERTIFICATES: &[Case] = &[
    error("tls", "[tls]\nself_signed = true\n[mtls.s]\nuser_id = \"san_uri\"", (3, 7), "there is no `tls.client_ca` to verify them by", "client_ca = "),
    error("tls", "[tls]\nself_signed = true\nclient_crls = [\"c\"]", (3, 1), "no client is asked for a certificate that could be", "client_ca ="),
    error("tls", "[tls]\nself_signed = true\nclient_ca = \"c\"\nclient_crls_expired = \"open\"", (4, 1), "there are no lists that could end", "client_crls ="),
    error("tls", "[tls]\nself_signed = true\nclient_ca = \"c\"\nclient_crls = [\"c\"]\nclient_crls_expired = \"ignore\"", (5, 23), "`ignore`", "closed"),
    error("tls", mtls!("roles = [\"a\"]"), (4, 7), "does not say who a certificate is", "user_id = "),
    error("tls", mtls!("user_id = \"san\""), (5, 11), "`san`", "san_dns"),
    error("tls", mtls!("user_id = \"san_uri\"\nprincipals = [{ san_uri = \"u\", user_id = \"a\" }]"), (5, 1), "say who each certificate is already", "keep"),
    error("tls", mtls!("user_id = \"san_uri\"\nemail = \"spki_sha256\""), (6, 9), "is no e-mail address", "san_email"),
    error("tls", mtls!("user_id = \"san_uri\"\nroles = [\"a,b\"]"), (6, 10), "has a comma", "one entry"),
    error("tls", mtls!("principals = [{ user_id = \"a\" }]"), (5, 15), "does not say which certificate", "san_dns"),
    error("tls", mtls!("principals = [{ user_id = \"a\", subject_cn = \"x\", san_dns = \"y\" }]"), (5, 32), "`san_dns` and `subject_cn` both say", "keep one"),
    error("tls", mtls!("principals = [{ user_id = \"a\", spki_sha256 = \"AB\" }]"), (5, 46), "no SHA-256", "openssl x509"),
    error("tls", mtls!("principals = [{ user_id = \"\", subject_cn = \"x\" }]"), (5, 27), "empty", ""),
    error("tls", mtls!("principals = [{ user_id = \"a\", san_dns = \"x\" }, { user_id = \"b\", san_dns = \"x\" }]"), (5, 76), "another entry is for this certificate", "remove one"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nauth = [\"mtls.s\"]", (5, 9), "there is no `[mtls.s]`", "add a table"),
    error("tls", "[tls]\nself_signed = true\nclient_ca = \"c\"\n[mtls.\"a b\"]\nuser_id = \"san_uri\"", ANYWHERE, "cannot be a name", "1 to 64"),
    warning("tls", mtls!("user_id = \"san_uri\""), (4, 7), "no route uses `[mtls.s]`", "remove it"),
];

#[rustfmt::skip]
const BINDINGS: &[Case] = &[
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nbinding = \"certificate\"", (4, 1), "there is no `tls.client_ca` to verify them by", "client_ca"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nbinding = \"dpop\"\ntoken = \"cookie:t\"", (4, 11), "a proof goes with `Authorization: DPoP`", "leave `token` out"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nbinding = \"none\"", (4, 11), "`none`", "optional"),
    error("lockout", "[dpop]\nalgorithms = [\"ES256\", \"HS256\"]", (2, 24), "`HS256` has no public key", "ES256"),
    error("lockout", "[dpop]\nalgorithms = []", (2, 14), "empty", "write [\"ES256\"]"),
    warning("lockout", "[dpop]\nnonce = true\n[state]\nstore = \"redis\"\nredis = { url = \"env:R\" }", (2, 9), "none knows another's", "nonce_key ="),
    error("lockout", "[dpop]\nmax_age = \"1h\"", (2, 11), "`1h` is out of range", "\"1s\" to \"10m\""),
    error("lockout", "[dpop]\nleeway = \"2m\"", (2, 10), "`2m` is out of range", "1m"),
    error("lockout", "[dpop]\nnonce_key = \"env:N\"", (2, 1), "no proof is asked for a nonce", "nonce = true"),
];

#[rustfmt::skip]
const ASSERTIONS: &[Case] = &[
    error("upstreams", "[upstreams.app]\nservers = [\"a:1\"]\nidentity_assertion = true", (3, 1), "there is no `[identity_assertion]`", "keys"),
    warning("lockout", "[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"g\"", (1, 2), "no upstream gets assertions", "identity_assertion = true"),
    error("lockout", "[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"\"", (3, 10), "empty", ""),
    error("lockout", "[identity_assertion]\nkeys = []\nissuer = \"g\"", (2, 8), "empty", ""),
    error("lockout", "[identity_assertion]\nkeys = [\"env:K\", \"env:K\"]\nissuer = \"g\"", (2, 18), "stands in the list already", ""),
    error("lockout", "[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"g\"\nlifetime = \"1h\"", (4, 12), "`1h` is out of range", "10m"),
    error("lockout", "[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"g\"\nheader = \"X-User-Id\"", (4, 10), "`X-User-Id` has a meaning", ""),
    error("lockout", "[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"g\"\nheader = \"Authorization\"", (4, 10), "`Authorization` has a meaning", ""),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/.well-known/gapura/assertion-keys\"\nupstream = \"app\"\nidentity_assertion = true\n[identity_assertion]\nkeys = [\"env:K\"]\nissuer = \"g\"", (3, 8), "the gateway itself publishes", "another path"),
];

#[rustfmt::skip]
const OPERATIONS: &[Case] = &[
    error("routes", operation!("lifetime = \"2d\"", ""), (15, 12), "`2d` is out of range", "1d"),
    error("routes", operation!("header = \"DPoP\"", ""), (15, 10), "`DPoP` has a meaning", "X-Operation-Token"),
    error("routes", operation!("keys = [\"env:P\"]", ""), (15, 1), "`key` and `keys` both say", "first place of `keys`"),
    error("lockout", "[operation_tokens.p]\nkeys = [\"env:P\", \"env:P\"]", (2, 18), "stands in the list already", ""),
    error("lockout", "[operation_tokens.p]\nkeys = [\"env:A\",\"env:B\",\"env:C\",\"env:D\",\"env:E\",\"env:F\",\"env:G\",\"env:H\",\"env:I\"]", (2, 8), "more than 8 keys", "keep"),
    error("lockout", "[operation_tokens.p]\nlifetime = \"1m\"", (1, 19), "has no key to sign tokens with", "key ="),
    error("routes", operation!("header = \"Cache-Control\"", ""), (15, 10), "`Cache-Control` has a meaning", "X-Operation-Token"),
    error("routes", operation!("header = \"Location\"", ""), (15, 10), "`Location` has a meaning", "X-Operation-Token"),
    error("routes", operation!("header = \"X_Key\"", "[api_keys.k]\nheader = \"X-Key\"\nsalt = \"env:S\"\n"), (18, 10), "`X_Key` is where `api_keys.k` looks", "X-Operation-Token"),
    error("routes", operation!("used_for = \"header:X-User-Id\"\nissued_for = \"body:/id\"", ""), (15, 12), "`X-User-Id` is written by the gateway", "X-Payment-Id"),
    error("routes", operation!("used_for = \"header:X-Operation_Token\"\nissued_for = \"body:/id\"", ""), (15, 12), "carries the token itself", "path:id"),
    error("routes", operation!("used_for = \"header:X-Key\"\nissued_for = \"body:/id\"", "[api_keys.k]\nheader = \"X-Key\"\nsalt = \"env:S\"\n"), (18, 12), "is where API keys are looked for", "path:id"),
    error("routes", operation!("used_for = \"header:X-Id\"\nissued_for = \"header:X-Operation-Token\"", ""), (16, 14), "carries the token itself", "body:/id"),
    error("routes", operation!("issued_for = \"path:id\"", ""), (15, 1), "without `used_for` there is nothing to compare", "used_for ="),
    error("routes", operation!("used_for = \"path:id\"", ""), (15, 1), "without `issued_for` there is nothing to compare", "issued_for ="),
    error("routes", operation!("used_for = \"path:idd\"\nissued_for = \"body:/id\"", ""), (9, 8), "has no segment `{idd}`", "{idd}"),
    error("routes", operation!("used_for = \"body:/id\"\nissued_for = \"body:/id\"", ""), (15, 12), "`body:/id` is no place", "path:NAME"),
    error("routes", operation!("used_for = \"path:id\"\nissued_for = \"body:id\"", ""), (16, 14), "`id` is no JSON pointer", "body:/"),
    error("routes", operation!("used_for = \"path:id\"\nissued_for = \"body:/a~2\"", ""), (16, 14), "is no JSON pointer", "body:/"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/a\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nissues = \"p\"\nrequires = \"p\"\n[operation_tokens.p]\nkey = \"env:O\"", (6, 10), "who has used such a token", "another route"),
    error("routes", operation!("", "[[routes]]\nname = \"c\"\npath = \"/c\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nrequires = \"p\"\n"), (18, 12), "a token is for one route", "table of its own"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nissues = \"q\"\nauth = [\"jwt.users\"]", (5, 10), "there is no `[operation_tokens.q]`", ""),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nrequires = \"p\"\n[operation_tokens.p]\nkey = \"env:O\"", (5, 12), "is for one caller, and this route is public", "add `auth"),
    warning("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nrequires = \"p\"\nauth = [\"jwt.users\"]\n[operation_tokens.p]\nkey = \"env:O\"", (7, 19), "no route gives one out", "issues = \"p\""),
    warning("routes", concat!(operation!("", ""), "[state]\nstore = \"redis\"\nredis = { url = \"env:R\", on_outage = \"open\" }\n"), (17, 38), "an operation token may be used any number of times", "closed"),
];

#[test]
fn certificates() {
    check_all(CERTIFICATES);
}

#[test]
fn bindings() {
    check_all(BINDINGS);
}

#[test]
fn assertions() {
    check_all(ASSERTIONS);
}

#[test]
fn operations() {
    check_all(OPERATIONS);
}

#[test]
fn a_certificate_chooses_no_method() {
    let tls = "[tls]\nself_signed = true\nclient_ca = \"c\"\n[mtls.s]\nuser_id = \"san_uri\"\n[mtls.t]\nuser_id = \"san_dns\"";
    let (text, _) = super::with("tls", tls);
    let text = text.replace("auth = [\"jwt.users\"", "auth = [\"mtls.s\", \"mtls.t\", \"jwt.users\"");
    let (source, faults) = super::faults(&text);
    let report = source.render(&faults, false);
    assert!(report.contains("a certificate cannot choose between `mtls.s` and `mtls.t`"), "{report}");
}
