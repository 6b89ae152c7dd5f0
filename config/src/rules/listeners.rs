//! Where the gateway listens, its TLS, its limits, its state.

use std::{net::IpAddr, time::Duration};

use super::{Rules, access, at};
use crate::{
    fault::{Fault, Place},
    model::{Limits, RevocationExpiry, Server, Tls},
    units::{Address, Size},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    let server = &config.server;
    listening(rules, server, config.tls.as_ref());
    addresses(rules, server);
    admin(rules, server);
    trusted_proxies(rules, server);
    if let Some(tls) = &config.tls {
        certificates(rules, tls, server);
    }
    limits(rules, &config.limits);
    if server.threads > 1024 {
        let fault = Fault::at(at(&["server", "threads"]), "more than 1024 threads only wait for each other");
        rules.add(fault.help("write 0 for one per core"));
    }
}

fn listening(rules: &mut Rules<'_>, server: &Server, tls: Option<&Tls>) {
    let table = at(&["server"]);
    let [https, http] = ["https", "http"].map(|key| table.key(key));
    // A misspelt `https` is one fault, not three.
    let known = rules.sound_keys(&table, &["https", "http"]);
    if known && server.https.is_empty() && server.http.is_empty() {
        let fault = Fault::at(table.clone(), "the gateway listens nowhere").on_key();
        rules.add(fault.help("add `https = [\"0.0.0.0:8443\"]` to `[server]`"));
    }
    if !server.https.is_empty() && tls.is_none() && rules.written(&at(&["tls"])) {
        let fault = Fault::at(https, "listeners with TLS need certificates, and there is no `[tls]`");
        rules.add(fault.help("add `[tls]` with `certificates`, or with `self_signed = true` for development"));
    }
    if !known || !rules.sound(&table.key("plaintext")) {
        return;
    }
    if server.plaintext && server.http.is_empty() {
        let fault = Fault::at(table.key("plaintext"), "`plaintext = true` serves on `http`, which has no address");
        rules.add(fault.help("add `http = [\"127.0.0.1:8080\"]`, or remove `plaintext`"));
    } else if server.plaintext {
        let fault = Fault::warning(
            table.key("plaintext"),
            "requests are served without TLS: bodies and credentials travel in the clear",
        );
        rules.add(fault.help("only for development, or behind something that ends TLS on the same host"));
    } else if !server.http.is_empty() && server.https.is_empty() {
        let fault = Fault::at(http, "these listeners redirect to https, and there is no `https` listener");
        rules.add(fault.help("add `https = [\"0.0.0.0:8443\"]`, or `plaintext = true` to serve without TLS"));
    }
}

/// Two listeners cannot have one address. Neither can a wildcard and an address of the same port: the second fails to
/// bind, or, worse, takes connections meant for the first.
fn addresses(rules: &mut Rules<'_>, server: &Server) {
    let lists = [("https", &server.https), ("http", &server.http)];
    let mut seen: Vec<(Place, &Address)> = Vec::new();
    for (key, list) in lists {
        for (i, address) in list.iter().enumerate() {
            let place = at(&["server", key]).index(i);
            needs_port(rules, &place, address);
            if let Some((first, other)) = seen.iter().find(|(place, other)| rules.sound(place) && clash(address, other))
            {
                let line = rules.line(first);
                rules.add(
                    Fault::at(place.clone(), format!("`{address}` is taken by `{other}`{line}"))
                        .help("remove one of them"),
                );
            }
            seen.push((place, address));
        }
    }
    if let Some(admin) = &server.admin {
        needs_port(rules, &at(&["server", "admin"]), admin);
    }
    if let Some(admin) = &server.admin
        && let Some((_, public)) = seen.iter().find(|(place, public)| rules.sound(place) && clash(admin, public))
    {
        let message = format!("the admin API would stand on `{public}`, which is public");
        rules.add(Fault::at(at(&["server", "admin"]), message).help("give it a port of its own: \"127.0.0.1:9180\""));
    }
}

/// Sockets of the file system are for upstreams: what is limited and logged by the client's address needs one.
fn needs_port(rules: &mut Rules<'_>, place: &Place, address: &Address) {
    if let Address::Unix(_) = address
        && rules.sound(place)
    {
        let fault = Fault::at(place.clone(), format!("the gateway cannot listen on `{address}`"));
        rules.add(fault.help("write `host:port`; `unix:` is for the servers of upstreams"));
    }
}

fn clash(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp { host: a, port: p }, Address::Tcp { host: b, port: q }) => {
            // Port 0 is another free port each time.
            p == q && *p != 0 && (a.eq_ignore_ascii_case(b) || is_wildcard(a) || is_wildcard(b))
        }
        _ => one == other,
    }
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

fn admin(rules: &mut Rules<'_>, server: &Server) {
    let Some(Address::Tcp { host, .. }) = &server.admin else { return };
    let local = host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    if !local {
        let fault = Fault::warning(
            at(&["server", "admin"]),
            format!(
                "`{host}` can be reached from other hosts, and the admin API reloads and shows metrics to whoever asks"
            ),
        );
        rules.add(fault.help("listen on 127.0.0.1, or let a firewall guard it"));
    }
}

fn trusted_proxies(rules: &mut Rules<'_>, server: &Server) {
    let place = at(&["server", "trusted_proxies"]);
    access::host_bits(rules, &place, &server.trusted_proxies);
    rules.repeated(&place, &server.trusted_proxies);
    for (i, network) in server.trusted_proxies.iter().enumerate().filter(|(_, network)| network.prefix_len() == 0) {
        let fault = Fault::warning(
            place.index(i),
            format!("`{network}` is everyone: each client could choose its own address"),
        );
        rules.add(fault.help("name only the networks of your proxies"));
    }
}

fn certificates(rules: &mut Rules<'_>, tls: &Tls, server: &Server) {
    let table = at(&["tls"]);
    rules.repeated(&table.key("certificates"), &tls.certificates);
    for (i, certificate) in tls.certificates.iter().enumerate() {
        let place = table.key("certificates").index(i);
        for (key, path) in [("cert", &certificate.cert), ("key", &certificate.key)] {
            rules.not_empty(place.key(key), &path.to_string_lossy());
        }
    }
    if let Some(ca) = &tls.client_ca {
        rules.not_empty(table.key("client_ca"), &ca.to_string_lossy());
    }
    let own = rules.sound_keys(&table, &["certificates", "self_signed"]);
    if own && tls.certificates.is_empty() && !tls.self_signed {
        let fault = Fault::at(table.clone(), "`[tls]` has no certificate").on_key();
        rules.add(
            fault.help("add `certificates = [{ cert = \"…\", key = \"…\" }]`, or `self_signed = true` for development"),
        );
    }
    if !tls.certificates.is_empty() && tls.self_signed {
        let fault = Fault::at(table.key("self_signed"), "there are `certificates` too: which one would be shown?");
        rules.add(fault.help("keep one of the two"));
    }
    if tls.client_auth.is_some() && tls.client_ca.is_none() && rules.sound(&table.key("client_ca")) {
        let fault =
            Fault::at(table.key("client_auth"), "client certificates need `client_ca`, the authorities that sign them");
        rules.add(fault.help("add `client_ca = \"clients.pem\"`, or remove `client_auth`"));
    }
    rules.repeated(&table.key("client_crls"), &tls.client_crls);
    if !tls.client_crls.is_empty() && tls.client_ca.is_none() && rules.sound(&table.key("client_ca")) {
        let fault = Fault::at(table.key("client_crls"), "no client is asked for a certificate that could be in a list");
        rules.add(fault.on_key().help("add `client_ca = \"clients.pem\"`, or remove it"));
    }
    if tls.client_crls_expired != RevocationExpiry::default()
        && tls.client_crls.is_empty()
        && rules.sound(&table.key("client_crls"))
    {
        let fault = Fault::at(table.key("client_crls_expired"), "there are no lists that could end");
        rules.add(fault.on_key().help("add `client_crls = [\"clients.crl\"]`, or remove it"));
    }
    if server.https.is_empty() && rules.sound(&at(&["server", "https"])) {
        let fault = Fault::warning(table, "no listener uses `[tls]`: `server.https` has no address").on_key();
        rules.add(fault.help("add `https = [\"0.0.0.0:8443\"]` to `[server]`"));
    }
}

/// Values that parse, but with which no request would pass, or any number of slow ones would be held.
fn limits(rules: &mut Rules<'_>, limits: &Limits) {
    let table = at(&["limits"]);
    if !(Size::kib(1)..=Size::mib(1)).contains(&limits.max_head) {
        let fault = Fault::at(table.key("max_head"), format!("`{}` is out of range", limits.max_head));
        rules.add(fault.help("write a size from \"1KiB\" to \"1MiB\"; common servers take 8KiB to 64KiB"));
    }
    for (key, period) in [("handshake_timeout", limits.handshake_timeout), ("head_timeout", limits.head_timeout)] {
        if period.get() > Duration::from_secs(120) {
            let fault =
                Fault::warning(table.key(key), format!("`{period}` lets a slow client hold a connection that long"));
            rules.add(fault.help("some seconds are enough: \"10s\""));
        }
    }
}
