//! What else of a head reaches the upstream: the addresses that may be believed, the host as received, one request id, a
//! trace, and the one canonical path that was matched.

use crate::support::{Curl, Gateway, Setup, Upstream, expect_problem};

const TABLES: &str = r#"
[upstreams.backend]
servers = ["@BACKEND@"]

[jwt.users]
algorithms = ["HS256"]
secret = "env:JWT_SECRET"

[rate_limits.each_address]
limit = 1
window = "1h"
by = "client_ip"

[[routes]]
name = "open"
path = "/open/**"
upstream = "backend"

[[routes]]
name = "root"
path = "/"
upstream = "backend"

[[routes]]
name = "private"
path = "/private/**"
upstream = "backend"
auth = ["jwt.users"]

[[routes]]
name = "limited"
path = "/limited"
upstream = "backend"
rate_limits = ["each_address"]
"#;

fn start(upstream: &Upstream) -> Gateway {
    Setup::tls(TABLES).put("BACKEND", upstream.address()).start()
}

/// A gateway behind a proxy: this machine is one.
fn start_behind_proxy(upstream: &Upstream) -> Gateway {
    let server = "[server]\nhttp = [\"127.0.0.1:0\"]\nplaintext = true\nadmin = \"127.0.0.1:0\"\n\
                  trusted_proxies = [\"127.0.0.0/8\"]\n";
    Setup::new(&format!("{server}{TABLES}")).put("BACKEND", upstream.address()).start()
}

const FORGED: [(&str, &str); 9] = [
    ("X-Forwarded-For", "203.0.113.9"),
    ("X-Forwarded-For", "198.51.100.7"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "bank.test"),
    ("X-Forwarded-Port", "forged-port"),
    ("X-Forwarded-Prefix", "/forged"),
    ("X-Forwarded-User", "forged"),
    ("X_Forwarded_For", "203.0.113.9"),
    ("Forwarded", "for=203.0.113.9;proto=https;host=bank.test"),
];

/// On routes without encryption, too: nobody has looked at them there.
#[test]
fn what_is_said_to_the_gateway_alone_goes_no_further() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let sent = [
        ("X-Gapura-Envelope", "hpke=AAAA"),
        ("X_Gapura_Envelope", "hpke=AAAA"),
        ("X-Gapura-Mac", "v=1"),
        ("X-Gapura-Other", "kept"),
    ];
    gateway.every_way("/open", &sent, |answer| {
        assert_eq!(answer.status, 200);
        let names: Vec<String> =
            upstream.last().raw_headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let own: Vec<&String> = names.iter().filter(|name| name.contains("gapura")).collect();
        assert_eq!(own, ["x-gapura-other"]);
    });
}

#[test]
fn what_a_stranger_says_of_its_address_is_removed() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    gateway.every_way("/open", &FORGED, |answer| {
        assert_eq!(answer.status, 200);
        let heard = upstream.last();
        assert_eq!(heard.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(heard.header("x-forwarded-proto"), Some("http"));
        assert_eq!(heard.header("x-forwarded-host"), Some("gateway.test"));
        assert_eq!(heard.header("forwarded"), None);
    });
    let seen = String::from_utf8_lossy(&upstream.bytes()).into_owned();
    for forged in ["203.0.113.9", "198.51.100.7", "bank.test", "forged"] {
        assert!(!seen.contains(forged), "{forged} passed: {seen}");
    }
    Curl::h2(gateway.https(), "/open").answer();
    assert_eq!(upstream.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::ok();
    let gateway = start_behind_proxy(&upstream);
    let headers = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "shop.test"),
        ("X-Request-Id", "proxy-chose-this-1"),
    ];
    gateway.every_way("/open", &headers, |answer| {
        assert_eq!(answer.header("x-request-id"), Some("proxy-chose-this-1"));
        let heard = upstream.last();
        assert_eq!(heard.header("x-request-id"), Some("proxy-chose-this-1"));
        let chain = heard.header("x-forwarded-for").expect("X-Forwarded-For");
        assert_eq!(chain.split(',').next().map(str::trim), Some("203.0.113.9"), "{chain}");
        assert_eq!(heard.header("x-forwarded-proto"), Some("https"));
        assert_eq!(heard.header("x-forwarded-host"), Some("shop.test"));
    });
}

/// Other spellings of its fields came through a trusted proxy from a stranger; backends that make `_` of `-` would take
/// them for its own.
#[test]
fn other_spellings_do_not_pass_a_trusted_proxy() {
    let upstream = Upstream::ok();
    let gateway = start_behind_proxy(&upstream);
    let headers = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X_Forwarded_For", "198.51.100.7"),
        ("X-Forwarded_For", "198.51.100.7"),
        ("x.forwarded.for", "198.51.100.7"),
        ("X_FORWARDED_PROTO", "forged"),
        ("X_Forwarded_Host", "forged"),
        ("X_Forwarded_Prefix", "forged"),
    ];
    gateway.every_way("/open", &headers, |answer| {
        assert_eq!(answer.status, 200);
        let heard = upstream.last();
        assert_eq!(heard.header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
        let names: Vec<_> = heard.raw_headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        let odd = names.iter().find(|name| name.contains("forwarded") && name.contains(['_', '.']));
        assert_eq!(odd, None, "{names:?}");
    });
    let seen = String::from_utf8_lossy(&upstream.bytes()).into_owned();
    assert!(!seen.contains("198.51.100.7") && !seen.contains("forged"), "{seen}");
}

/// A hop that is no text hides what stands left of it, and nothing else: the proxy's own hop stands right of it.
#[test]
fn a_hop_that_is_no_text_hides_only_itself() {
    let upstream = Upstream::ok();
    let gateway = start_behind_proxy(&upstream);
    let ask = |target: &str, chains: &[&[u8]], body: &str| {
        let mut request = format!("POST {target} HTTP/1.1\r\nHost: gateway.test\r\n").into_bytes();
        for chain in chains {
            request.extend([b"X-Forwarded-For: ", *chain, b"\r\n"].concat());
        }
        request.extend_from_slice(body.as_bytes());
        gateway.connect().send(request).answer("POST")
    };
    // Of the fields' values, with this address as the proxy's hop.
    type Form = fn(&[u8]) -> Vec<Vec<u8>>;
    let forms: [Form; 3] = [
        |address| vec![[b"6.6.6.6\xe9, ", address].concat()],
        |address| vec![[b"\xff\xfe,", address].concat()],
        |address| vec![b"caf\xc3\xa9".to_vec(), address.to_vec()],
    ];
    for (number, form) in forms.into_iter().enumerate() {
        for (last, status) in [(1, 200), (2, 200), (1, 429), (2, 429)] {
            let address = format!("203.0.113.{}", number * 10 + last);
            let chains = form(address.as_bytes());
            let chains: Vec<_> = chains.iter().map(Vec::as_slice).collect();
            assert_eq!(ask("/limited", &chains, "\r\n").status, status, "{address}, form {number}");
        }
        for body in ["Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"] {
            let chains = form(b"203.0.113.99");
            let chains: Vec<_> = chains.iter().map(Vec::as_slice).collect();
            assert_eq!(ask("/open", &chains, body).status, 200);
            let heard = upstream.last();
            let chain = heard.header("x-forwarded-for").expect("X-Forwarded-For");
            assert!(chain.ends_with("203.0.113.99, 127.0.0.1"), "{chain}");
        }
    }
}

#[test]
fn limits_by_address_count_the_client_behind_a_trusted_proxy_only() {
    let upstream = Upstream::ok();
    let behind = start_behind_proxy(&upstream);
    let from = |gateway: &Gateway, address| gateway.request("GET", "/limited", &[("X-Forwarded-For", address)], b"");
    assert_eq!(from(&behind, "203.0.113.1").status, 200);
    assert_eq!(from(&behind, "203.0.113.2").status, 200);
    expect_problem(&from(&behind, "203.0.113.1"), 429, "RATE_LIMITED");
    // What stands left of the address that the proxy saw is the client's own writing.
    expect_problem(&from(&behind, "198.51.100.1, 203.0.113.2"), 429, "RATE_LIMITED");
    let exposed = start(&upstream);
    assert_eq!(from(&exposed, "203.0.113.1").status, 200);
    expect_problem(&from(&exposed, "203.0.113.2"), 429, "RATE_LIMITED");
}

#[test]
fn a_request_id_is_the_gateways_own() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let mut seen = Vec::new();
    for headers in [&[][..], &[("X-Request-Id", "stranger-1")], &[("X-Request-Id", "a"), ("X-Request-Id", "b")]] {
        gateway.every_way("/open", headers, |answer| {
            let id = answer.header("x-request-id").expect("X-Request-Id").to_owned();
            assert_eq!(upstream.last().header("x-request-id"), Some(id.as_str()));
            assert!(id.len() >= 16, "{id} may repeat");
            assert!(!seen.contains(&id), "{id} is given twice");
            seen.push(id);
        });
    }
    let spoofed = gateway.request("GET", "/nowhere", &[("X-Request-Id", "stranger-2")], b"");
    assert!(!spoofed.text().contains("stranger"), "{}", spoofed.text());
}

#[test]
fn an_upstreams_request_id_does_not_replace_the_gateways() {
    let upstream = Upstream::start(|call| call.respond(200, &[("X-Request-Id", "of-the-upstream")], b"ok"));
    let gateway = start(&upstream);
    gateway.every_way("/open", &[], |answer| {
        assert_eq!(answer.header("x-request-id"), upstream.last().header("x-request-id"));
    });
}

#[test]
fn a_trace_goes_on_or_begins() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    let known = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for sent in ["", known, "00-00000000000000000000000000000000-b7ad6b7169203331-01", "rubbish"] {
        let headers = [("traceparent", sent)];
        gateway.every_way("/open", if sent.is_empty() { &[] } else { &headers }, |_| {
            let heard = upstream.last();
            let parent = heard.header("traceparent").expect("traceparent");
            let parts: Vec<_> = parent.split('-').collect();
            let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{parent}");
            assert!(parts.iter().all(|part| hex(part)) && parts[1].bytes().any(|byte| byte != b'0'), "{parent}");
            if sent == known {
                assert_eq!(parts[1], "0af7651916cd43dd8448eb211c80319c", "the trace was cut");
            }
        });
    }
}

#[test]
fn the_host_is_as_received() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for host in ["shop.test", "shop.test:8443", "SHOP.Test", "127.0.0.1", "[::1]:99"] {
        gateway.every_way("/open", &[("Host", host)], |answer| {
            assert_eq!(answer.status, 200, "{host}");
            assert_eq!(upstream.last().header("host"), Some(host));
        });
    }
    Curl::h2(gateway.https(), "/open").header("Host", "over-h2.test").answer();
    assert_eq!(upstream.last().header("host"), Some("over-h2.test"));
}

#[test]
fn hop_by_hop_fields_end_here() {
    let upstream = Upstream::start(|call| {
        call.respond(
            200,
            &[("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("X-End", "1")],
            b"ok",
        )
    });
    let gateway = start(&upstream);
    let headers = [
        ("Connection", "close, X-Mine"),
        ("X-Mine", "hop"),
        ("Keep-Alive", "timeout=100"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
        ("X-Kept", "end-to-end"),
    ];
    gateway.every_way("/open", &headers, |answer| {
        assert_eq!(answer.status, 200, "{}", answer.lossy());
        let heard = upstream.last();
        for name in ["x-mine", "keep-alive", "proxy-connection", "upgrade", "http2-settings"] {
            assert_eq!(heard.header(name), None, "{name} passed");
        }
        assert_eq!(heard.header("x-kept"), Some("end-to-end"));
        assert_eq!((answer.header("x-hop"), answer.header("x-end")), (None, Some("1")));
    });
}

#[test]
fn the_path_that_is_matched_is_the_path_that_is_forwarded() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for (given, forwarded) in [
        ("/", "/"),
        ("/open", "/open"),
        ("/open/", "/open/"),
        ("/open/a/./b/../c", "/open/a/c"),
        ("/private/../open/x", "/open/x"),
        ("/%6fpen/%7Euser", "/open/~user"),
        ("/open/caf%c3%a9", "/open/caf%C3%A9"),
        ("/open/a%20b", "/open/a%20b"),
        ("/open/100%25", "/open/100%25"),
        ("/open/x?q=/../a//b&e=%2e%2f", "/open/x?q=/../a//b&e=%2e%2f"),
        ("/open?", "/open?"),
    ] {
        gateway.every_way(given, &[], |answer| {
            assert_eq!(answer.status, 200, "{given}");
            // An empty query is no query.
            assert_eq!(upstream.last().target.trim_end_matches('?'), forwarded.trim_end_matches('?'), "{given}");
        });
        Curl::h2(gateway.https(), given).answer();
        assert_eq!(upstream.last().target.trim_end_matches('?'), forwarded.trim_end_matches('?'), "{given}, HTTP/2");
    }
}

#[test]
fn no_detour_leads_past_authentication() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for target in ["/private", "/private/", "/open/../private/x", "/./private", "/%70rivate/x", "/private/?a"] {
        expect_problem(&gateway.get(target), 401, "CREDENTIALS_MISSING");
    }
    upstream.expect_untouched();
}

#[test]
fn an_ambiguous_path_is_refused() {
    let upstream = Upstream::ok();
    let gateway = start(&upstream);
    for target in [
        "/open//x",
        "//open",
        "/open/a%2fb",
        "/open/a%2Fb",
        "/open\\x",
        "/open/a%5cb",
        "/open;x=1",
        "/open/a%3bb",
        "/open/%00",
        "/open/%2e%2e/private",
        "/open/.%2e/private",
        "/open/%252e%252e/private",
        "/open/%",
        "/open/%zz",
        "/open/a%2",
        "/open/x#fragment",
        "/open?a#b",
    ] {
        expect_problem(&gateway.get(target), 400, "REQUEST_MALFORMED");
        // curl does not send a fragment.
        if !target.contains('#') {
            expect_problem(&Curl::h2(gateway.https(), target).answer(), 400, "REQUEST_MALFORMED");
        }
    }
    upstream.expect_untouched();
}
