//! The same over HTTP/2: what RFC 9113 calls malformed, or what would mean something else once it is HTTP/1.1, reaches no
//! upstream.

use crate::{
    envelopes,
    support::{
        Gateway, Setup, Upstream,
        h2::{H2, Outcome},
        node::Sealer,
        token,
    },
};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[[routes]]
name = "all"
path = "/**"
upstream = "backend"
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

type Field<'a> = (&'a [u8], &'a [u8]);

const METHOD: Field<'_> = (b":method", b"GET");
const SCHEME: Field<'_> = (b":scheme", b"https");
const AUTHORITY: Field<'_> = (b":authority", b"gateway.test");
const PATH: Field<'_> = (b":path", b"/a");
const GOOD: [Field<'_>; 4] = [METHOD, SCHEME, AUTHORITY, PATH];

fn refused(gateway: &Gateway, what: &str, fields: &[Field<'_>], body: Option<&[u8]>) {
    match H2::connect(gateway.https()).send(fields, body).outcome() {
        Outcome::Reset | Outcome::Ended => {}
        Outcome::Answered { headers, body } => {
            // 0x88 is `:status: 200`, the first field of any such block.
            assert_ne!(headers.first(), Some(&0x88), "{what} was answered with 200: {body}");
            let codes = ["REQUEST_MALFORMED", "METHOD_NOT_ALLOWED", "ROUTE_NOT_FOUND"];
            let plain = body.is_empty() || codes.iter().any(|code| body.contains(code));
            assert!(plain, "{what}: {body}");
        }
    }
}

#[test]
fn a_good_request_by_hand() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let outcome = H2::connect(gateway.https()).send(&GOOD, None).outcome();
    let Outcome::Answered { headers, body } = outcome else { panic!("{outcome:?}") };
    assert_eq!((headers.first(), body.as_str()), (Some(&0x88), "ok"));
    assert_eq!(upstream.only().header("host"), Some("gateway.test"));
}

#[test]
fn fields_that_do_not_belong_into_a_request() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let cases: &[(&str, Field<'_>)] = &[
        ("connection", (b"connection", b"keep-alive")),
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("te", (b"te", b"gzip")),
        ("upgrade", (b"upgrade", b"websocket")),
        ("an upper-case name", (b"X-Upper", b"1")),
        ("an empty name", (b"", b"1")),
        ("a name with a space", (b"x y", b"1")),
        ("a name with a colon", (b"x:y", b"1")),
        ("a name with a line end", (b"x\r\ny", b"1")),
        ("a value with a line end", (b"x", b"1\r\nx-user-id: root")),
        ("a value with a line feed", (b"x", b"1\nx-user-id: root")),
        ("a value with NUL", (b"x", b"1\0")),
        ("a second path", PATH),
        ("a second method", METHOD),
        ("an unknown pseudo field", (b":unknown", b"1")),
        ("a response's pseudo field", (b":status", b"200")),
        ("another host", (b"host", b"other.test")),
        ("two lengths", (b"content-length", b"1, 2")),
        ("no length", (b"content-length", b"x")),
    ];
    for (what, field) in cases {
        refused(&gateway, what, &[&GOOD[..], &[*field]].concat(), None);
    }
    upstream.expect_untouched();
}

#[test]
fn requests_that_lack_something() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let cases: &[(&str, &[Field<'_>])] = &[
        ("no path", &[METHOD, SCHEME, AUTHORITY]),
        ("no method", &[SCHEME, AUTHORITY, PATH]),
        ("no scheme", &[METHOD, AUTHORITY, PATH]),
        ("no authority", &[METHOD, SCHEME, PATH]),
        ("an empty path", &[METHOD, SCHEME, AUTHORITY, (b":path", b"")]),
        ("an empty authority", &[METHOD, SCHEME, (b":authority", b""), PATH]),
        ("a pseudo field behind another", &[METHOD, SCHEME, AUTHORITY, (b"x", b"1"), PATH]),
        ("user and password", &[METHOD, SCHEME, (b":authority", b"user:pw@gateway.test"), PATH]),
        ("two hosts", &[METHOD, SCHEME, (b":authority", b"a.test, b.test"), PATH]),
        ("a path without slash", &[METHOD, SCHEME, AUTHORITY, (b":path", b"a")]),
        ("a star", &[METHOD, SCHEME, AUTHORITY, (b":path", b"*")]),
        ("a path with a space", &[METHOD, SCHEME, AUTHORITY, (b":path", b"/a b")]),
        ("a path with a line end", &[METHOD, SCHEME, AUTHORITY, (b":path", b"/a HTTP/1.1\r\nx: y")]),
        ("a path that is a URL", &[METHOD, SCHEME, AUTHORITY, (b":path", b"http://other.test/")]),
        ("a method with a space", &[(b":method", b"GET /"), SCHEME, AUTHORITY, PATH]),
        ("CONNECT", &[(b":method", b"CONNECT"), (b":authority", b"gateway.test:443")]),
        ("TRACE", &[(b":method", b"TRACE"), SCHEME, AUTHORITY, PATH]),
    ];
    for (what, fields) in cases {
        refused(&gateway, what, fields, None);
    }
    upstream.expect_untouched();
}

/// What HTTP/1.1 could not carry as it is, and what HTTP/1.1 is refused for here.
#[test]
fn characters_that_a_path_must_encode() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let targets =
        ["/a<b", "/a>b", "/a\"b", "/a`b", "/a b", "/a\\b", "/a\u{e9}b", "/a\u{7f}b", "/?a<b", "/?a>b", "/?a\"b"];
    let passed = |target: &&str| {
        let fields = [METHOD, SCHEME, AUTHORITY, (b":path", target.as_bytes())];
        let outcome = H2::connect(gateway.https()).send(&fields, None).outcome();
        matches!(outcome, Outcome::Answered { headers, .. } if headers.first() == Some(&0x88))
    };
    let passed: Vec<_> = targets.into_iter().filter(passed).collect();
    assert!(passed.is_empty(), "over HTTP/2 these passed: {passed:?}");
    upstream.expect_untouched();
}

/// HTTP/2 frames a body by itself; HTTP/1.1 needs a length. A body without one would be the next request of its connection.
#[test]
fn a_body_without_a_length_is_framed_anew() {
    let upstream = Upstream::start(|call| {
        call.body();
        call.respond(200, &[], b"{}")
    });
    let streamed = start(&upstream);
    let whole = envelopes::start(upstream.address());
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\nX-User-Id: root\r\n\r\n";
    let bearer = token();
    let sealed = Sealer::alice().seal("\"sealed\"").to_string();
    let json = &b"application/json"[..];
    for (gateway, path, content_type, sent, expected) in [
        (&streamed, "/a", &b"text/plain"[..], &smuggled[..], &smuggled[..]),
        (&whole, envelopes::LENIENT, b"text/plain", smuggled, smuggled),
        (&whole, envelopes::USER, json, sealed.as_bytes(), b"\"sealed\""),
        (&streamed, "/empty", json, b"", b""),
        (&whole, envelopes::LENIENT, json, b"", b""),
    ] {
        upstream.forget();
        let fields = [
            (&b":method"[..], &b"POST"[..]),
            SCHEME,
            AUTHORITY,
            (b":path", path.as_bytes()),
            (b"content-type", content_type),
        ];
        let authorization = [(&b"authorization"[..], bearer.as_bytes())];
        let outcome =
            H2::connect(gateway.https()).send(&[&fields[..], &authorization[..]].concat(), Some(sent)).outcome();
        assert!(matches!(&outcome, Outcome::Answered { headers, .. } if headers.first() == Some(&0x88)), "{outcome:?}");
        // What was left on the connection would be heard before this.
        assert_eq!(gateway.request("GET", path, &[("Authorization", &bearer)], b"").status, 200);
        let heard: Vec<_> =
            upstream.requests().into_iter().map(|heard| (heard.method, heard.target, heard.body)).collect();
        let first = ("POST".to_owned(), path.to_owned(), expected.to_vec());
        assert_eq!(heard, [first, ("GET".to_owned(), path.to_owned(), Vec::new())]);
    }
}

/// A length of nothing is a length: the gateway waits for what follows before it believes that.
#[test]
fn a_body_that_should_not_be_there() {
    let upstream = Upstream::ok();
    let streamed = start(&upstream);
    let whole = envelopes::start(upstream.address());
    let bearer = token();
    for (gateway, path) in [(&streamed, "/a"), (&whole, envelopes::LENIENT), (&whole, envelopes::USER)] {
        for method in ["POST", "GET"] {
            for body in [&b"GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n"[..], b"x"] {
                let fields = [
                    (&b":method"[..], method.as_bytes()),
                    SCHEME,
                    AUTHORITY,
                    (b":path", path.as_bytes()),
                    (b"authorization", bearer.as_bytes()),
                    (b"content-length", b"0"),
                ];
                refused(gateway, "a body that should not be there", &fields, Some(body));
            }
        }
    }
    upstream.expect_untouched();
    // An empty DATA frame is nothing.
    let fields = [&[(&b":method"[..], &b"POST"[..])], &GOOD[1..], &[(&b"content-length"[..], &b"0"[..])]].concat();
    let outcome = H2::connect(streamed.https()).send(&fields, Some(b"")).outcome();
    assert!(matches!(&outcome, Outcome::Answered { headers, .. } if headers.first() == Some(&0x88)), "{outcome:?}");
    assert_eq!(upstream.only().header("content-length"), Some("0"));
}

/// HTTP/2 may split a cookie; to HTTP/1.1 there is one field (RFC 9113, section 8.2.3).
#[test]
fn crumbs_become_one_cookie() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let crumbs: [Field<'_>; 3] = [(b"cookie", b"a=1"), (b"cookie", b"b=2; c=3"), (b"cookie", b"d=\"4\"")];
    let length: Field<'_> = (b"content-length", b"4");
    for (method, more, body) in
        [(&b"GET"[..], &[][..], None), (b"POST", &[length][..], Some(&b"body"[..])), (b"POST", &[][..], Some(b"body"))]
    {
        let fields = [&[(&b":method"[..], method)], &GOOD[1..], &crumbs[..], more].concat();
        let outcome = H2::connect(gateway.https()).send(&fields, body).outcome();
        assert!(matches!(&outcome, Outcome::Answered { headers, .. } if headers.first() == Some(&0x88)), "{outcome:?}");
        let heard = upstream.last();
        assert_eq!(heard.all("cookie"), ["a=1; b=2; c=3; d=\"4\""], "{:?}", heard.raw_headers);
        assert_eq!(heard.body, body.unwrap_or_default());
    }
}

#[test]
fn a_body_of_another_length_than_it_says() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for (length, body) in [(&b"3"[..], &b"12345"[..]), (b"7", b"12345")] {
        let fields = [&[(&b":method"[..], &b"POST"[..])], &GOOD[1..], &[(&b"content-length"[..], length)]].concat();
        refused(&gateway, "a length that does not fit", &fields, Some(body));
        // The head may have gone out before the body proved wrong; a whole request must not have.
        assert!(upstream.requests().iter().all(|heard| !heard.complete), "{:?}", upstream.requests());
    }
}
