//! What `[state.redis]` says of where Redis is, read and checked.

use gapura_config::model;
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult, io::tcp::TcpSettings,
};

/// Where the servers are.
#[derive(Clone)]
pub(super) enum Address {
    /// One server, or what stands for it at one address.
    Server(ConnectionInfo),
    /// Sentinels, and how the server is reached that they name.
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, login: RedisConnectionInfo, tls: bool },
    /// Some nodes of a Cluster.
    Cluster(Vec<ConnectionInfo>),
}

impl Address {
    /// The error never holds the URL. Not the place of a fault but its words say which key it is about.
    pub(super) fn read(redis: &model::Redis) -> Result<Self, String> {
        let secret = redis.url.read()?;
        let url = std::str::from_utf8(secret.bytes()).map_err(|_| format!("`{}` is no text", redis.url))?;
        let nodes = nodes(url).map_err(|fault| format!("`{}`: {fault}", redis.url))?;
        if let Some(sentinel) = &redis.sentinel {
            return Self::sentinel(sentinel, nodes);
        }
        match <[ConnectionInfo; 1]>::try_from(nodes) {
            Ok([node]) if !redis.cluster => Ok(Self::Server(node)),
            Ok(node) => Ok(Self::Cluster(node.into())),
            Err(nodes) if redis.cluster => Ok(Self::Cluster(nodes)),
            Err(_) => Err(format!(
                "`{}`: the URL of Redis names several nodes; write `cluster = true`, or `sentinel`, or one of them",
                redis.url
            )),
        }
        .and_then(|address| match &address {
            Self::Cluster(nodes) if nodes.iter().any(|node| node.redis_settings().db() != 0) => {
                Err(format!("`{}`: the URL of Redis chooses a database, and a Cluster has one only", redis.url))
            }
            _ => Ok(address),
        })
    }

    fn sentinel(sentinel: &model::Sentinel, nodes: Vec<ConnectionInfo>) -> Result<Self, String> {
        let mut login = RedisConnectionInfo::default();
        // Sentinels have no databases: the one in the URL is that of the server.
        login = login.set_db(nodes.first().map_or(0, |node| node.redis_settings().db()));
        let sentinels = nodes.into_iter().map(|node| {
            let settings = node.redis_settings().clone().set_db(0);
            node.set_redis_settings(settings)
        });
        let sentinels: Vec<_> = sentinels.collect();
        if let Some(username) = &sentinel.username {
            login = login.set_username(username);
        }
        if let Some(password) = &sentinel.password {
            let secret = password.read()?;
            let text = std::str::from_utf8(secret.bytes()).map_err(|_| format!("`{password}` is no text"))?;
            login = login.set_password(text);
        }
        let tls = sentinel.tls.unwrap_or(sentinels.first().is_some_and(|node| is_tls(node.addr())));
        if tls {
            choose_provider();
        }
        Ok(Self::Sentinel { sentinels, master: sentinel.master.clone(), login, tls })
    }

    /// Hosts and ports, for the log.
    pub(super) fn spelled(&self) -> String {
        let list = |nodes: &[ConnectionInfo]| nodes.iter().map(spelled).collect::<Vec<_>>().join(", ");
        match self {
            Self::Server(node) => spelled(node),
            Self::Sentinel { sentinels, master, .. } => format!("`{master}` of the Sentinels {}", list(sentinels)),
            Self::Cluster(nodes) => format!("the Cluster of {}", list(nodes)),
        }
    }

    /// Passwords, which Redis may repeat in its errors.
    pub(super) fn secrets(&self) -> Vec<String> {
        let of = |settings: &RedisConnectionInfo| settings.password().map(str::to_owned);
        let mut secrets: Vec<String> = match self {
            Self::Server(node) => of(node.redis_settings()).into_iter().collect(),
            Self::Sentinel { sentinels, login, .. } => {
                sentinels.iter().map(ConnectionInfo::redis_settings).chain([login]).filter_map(of).collect()
            }
            Self::Cluster(nodes) => nodes.iter().filter_map(|node| of(node.redis_settings())).collect(),
        };
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

/// Another server, reached like this one.
pub(super) fn beside(node: &ConnectionInfo, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
    at(node.redis_settings().clone(), is_tls(node.addr()), host, port)
}

/// Host, port, login and whether it is TLS, put together.
pub(super) fn at(login: RedisConnectionInfo, tls: bool, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
    let host = host.to_owned();
    let address = if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    Ok(quick(address.into_connection_info()?.set_redis_settings(login)))
}

/// Host and port of a node, for the log.
pub(super) fn spelled(node: &ConnectionInfo) -> String {
    match node.addr() {
        ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
        ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}, TLS"),
        _ => "a socket".to_owned(),
    }
}

fn is_tls(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::TcpTls { .. })
}

/// One URL, or several that differ in host and port only: those are written by commas.
fn nodes(url: &str) -> Result<Vec<ConnectionInfo>, String> {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme)) else {
        return Err("the URL of Redis begins with `redis://` or `rediss://`".to_owned());
    };
    // redis-rs reads `#insecure` as leave to skip the check of the certificate.
    if url.contains('#') {
        return Err("the URL of Redis ends before a `#`; in a password write `%23`".to_owned());
    }
    let (login, rest) = rest.rfind('@').map_or(("", rest), |at| rest.split_at(at + 1));
    let (hosts, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
    hosts.split(',').map(|host| node(&format!("{scheme}://{login}{}{path}", host.trim()))).collect()
}

fn node(url: &str) -> Result<ConnectionInfo, String> {
    let info = url.into_connection_info().map_err(|fault| {
        format!(
            "the URL of Redis is not one: {}; in a password `/`, `?`, `@` and `:` are written %xx",
            fault.category()
        )
    })?;
    match info.addr() {
        ConnectionAddr::Tcp(..) => {}
        ConnectionAddr::TcpTls { .. } => choose_provider(),
        _ => return Err("the URL of Redis names no host".to_owned()),
    }
    Ok(quick(info))
}

/// Without it the kernel holds back every question that is asked while another is on its way.
fn quick(info: ConnectionInfo) -> ConnectionInfo {
    info.set_tcp_settings(TcpSettings::default().set_nodelay(true))
}

/// rustls is built with two providers in this process, so one has to be chosen; the first choice stands.
fn choose_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(url: &str, change: impl Fn(&mut model::Redis)) -> Result<Address, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(url.as_bytes()).unwrap();
        let mut redis = model::Redis::new(format!("file:{}", file.path().display()).parse().unwrap());
        change(&mut redis);
        Address::read(&redis)
    }

    #[test]
    fn a_url_that_is_none_is_named_without_its_password() {
        for url in [
            "http://u:hunter2@localhost",
            "redis://u:hunter2@localhost:port",
            "redis://u:hunter2@localhost/zero",
            "rediss://u:hunter2@localhost/#insecure",
            "redis://u:hunter2@",
            "redis://u:hunter2@a,b:6379,",
            "redis://u:hunter2@a,b",
            "hunter2",
        ] {
            let fault = read(url, |_| {}).err().unwrap();
            assert!(fault.contains("the URL of Redis") && !fault.contains("hunter2"), "{url}: {fault}");
        }
        let fault = read("redis://u:hunter2@a,b/3", |redis| redis.cluster = true).err().unwrap();
        assert!(fault.contains("a Cluster has one only"), "{fault}");
        let address = read("redis://u:hunter2@localhost:7000/3", |_| {}).unwrap();
        assert_eq!((&*address.spelled(), address.secrets()), ("localhost:7000", vec!["hunter2".to_owned()]));
    }

    #[test]
    fn nodes_of_a_cluster_and_sentinels_are_written_by_commas() {
        let address = read("rediss://u:a%2Cb,c@one, [::1]:7001,three:7002", |redis| redis.cluster = true).unwrap();
        assert_eq!(address.spelled(), "the Cluster of one:6379, TLS, ::1:7001, TLS, three:7002, TLS");
        assert_eq!(address.secrets(), ["a,b,c", "a,b,c", "a,b,c"]);
        let sentinel = |tls| model::Sentinel { master: "main".into(), username: None, password: None, tls };
        let address = read("redis://:s@one:26379,two:26379/2", |redis| redis.sentinel = Some(sentinel(None))).unwrap();
        assert_eq!(address.spelled(), "`main` of the Sentinels one:26379, two:26379");
        let Address::Sentinel { sentinels, login, tls, .. } = address else { panic!("Sentinels") };
        assert_eq!((sentinels[0].redis_settings().db(), login.db(), login.password(), tls), (0, 2, None, false));
        let address = read("redis://one", |redis| redis.sentinel = Some(sentinel(Some(true)))).unwrap();
        assert!(matches!(address, Address::Sentinel { tls: true, .. }));
    }
}
