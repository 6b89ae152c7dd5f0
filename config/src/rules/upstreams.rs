//! The servers behind the gateway.

use std::net::IpAddr;

use super::{Rules, at};
use crate::{
    fault::Fault,
    model::Upstream,
    units::{Address, is_dns_name},
};

pub(super) fn check(rules: &mut Rules<'_>) {
    let config = rules.config;
    rules.names("upstreams", &config.upstreams);
    for (name, upstream) in &config.upstreams {
        servers(rules, name, upstream);
        tls(rules, name, upstream);
    }
}

fn servers(rules: &mut Rules<'_>, name: &str, upstream: &Upstream) {
    let list = at(&["upstreams", name, "servers"]);
    rules.repeated(&list, &upstream.servers);
    let config = rules.config;
    for (i, server) in upstream.servers.iter().enumerate() {
        let place = list.index(i);
        if let Address::Tcp { port: 0, .. } = server {
            let fault = Fault::at(place.clone(), format!("`{server}`: nothing is reached on port 0"));
            rules.add(fault.help("write the port that the server listens on"));
        }
        let own = |rules: &Rules<'_>, key: &str, listeners: &[Address]| {
            // Port 0 of a listener is any free one, and of a server none at all, which is told above.
            let is_port_0 = matches!(server, Address::Tcp { port: 0, .. });
            let listener = listeners.iter().position(|own| own == server && !is_port_0);
            listener.is_some_and(|i| rules.sound(&at(&["server", key]).index(i)))
        };
        if own(rules, "https", &config.server.https) || own(rules, "http", &config.server.http) {
            let fault =
                Fault::at(place, format!("`{server}` is the gateway itself: a request would go round for ever"));
            rules.add(fault.help("write the address of the application"));
        }
    }
}

fn tls(rules: &mut Rules<'_>, name: &str, upstream: &Upstream) {
    let table = at(&["upstreams", name]);
    if let Some(server_name) = &upstream.server_name {
        let is_host = server_name.parse::<IpAddr>().is_ok() || is_dns_name(server_name);
        if !is_host {
            let fault = Fault::at(table.key("server_name"), format!("`{server_name}` is not a host name"));
            rules.add(fault.help("write the name in the server's certificate: \"api.internal\""));
        }
    }
    if upstream.tls {
        // Without a name Pingora sends an empty SNI, and for an empty SNI it skips the verification of the certificate,
        // silently and with every TLS library. An address or a socket gives no name.
        if !rules.sound_keys(&table, &["servers", "server_name"]) {
            return;
        }
        let unnamed =
            upstream.servers.iter().find(|server| !matches!(server, Address::Tcp { host, .. } if is_dns_name(host)));
        if let (None, Some(server)) = (&upstream.server_name, unnamed) {
            let message = format!("`{server}` has no name to verify its certificate by");
            rules.add(Fault::at(table.key("tls"), message).help("add `server_name`, the name in the certificate"));
        }
        return;
    }
    if !rules.sound(&table.key("tls")) {
        return;
    }
    for (key, present) in [("server_name", upstream.server_name.is_some()), ("ca", upstream.ca.is_some())] {
        if present {
            let message = format!("`{key}` belongs to TLS, and these servers are reached without it");
            rules.add(Fault::at(table.key(key), message).help(format!("add `tls = true`, or remove `{key}`")));
        }
    }
}
