//! `X-Forwarded-For` and `Forwarded`: a stranger is himself, whatever he says; nobody right of the first stranger is asked.
#![no_main]

use gapura::fuzzing::client_ip;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (standard, values) = input;
    let proxies: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().filter_map(|net| net.parse().ok()).collect();
    let name = if standard { "forwarded" } else { "x-forwarded-for" };
    let mut fields = HeaderMap::new();
    for value in values.iter().take(8).filter_map(|value| HeaderValue::from_bytes(value).ok()) {
        fields.append(name, value);
    }
    let stranger = [192, 0, 2, 1].into();
    assert_eq!(client_ip(stranger, &fields, &proxies), stranger);
    let proxy = [10, 0, 0, 1].into();
    let found = client_ip(proxy, &fields, &proxies);
    assert_eq!(found, found.to_canonical());
    // An address that the proxy did not write is not found.
    let said = fields.values().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    assert!(found == proxy || found.is_ipv6() || said.contains(&found.to_string()) || said.contains(':'), "{found}");
    // What the last proxy adds to the right decides, when it is no proxy.
    let last = "198.51.100.7";
    let added = if standard { format!("for={last}") } else { last.to_owned() };
    fields.append(name, HeaderValue::try_from(added).expect("an address"));
    assert_eq!(client_ip(proxy, &fields, &proxies).to_string(), last);
});
