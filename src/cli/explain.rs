//! `gapura explain`: what a request would meet.

use std::{borrow::Cow, fmt::Write as _, path::Path, process::ExitCode};

use gapura_config::{
    model::{self, LimitAlgorithm, OnOutage, RedisMode},
    units::Address,
};
use gapura_filters::{
    assertion::KEYS_PATH,
    contract::{Code, Stage},
    policy::{Policy, Route},
    router::Found,
    target::{canonical_path, check_query},
};
use http::Method;

use super::{Exit, check, decision::Credentials, delivered, print, seal};
use crate::{examine, kms, proxy::delivery, stores::redis::adaptive_excess};

pub(super) fn run(path: &Path, method: &str, url: &str, credentials: &Credentials) -> ExitCode {
    let (loaded, _) = match examine::file(path, false) {
        Ok(loaded) => loaded,
        Err((source, faults)) => {
            check::report(&source, &faults);
            return Exit::of(&faults).code();
        }
    };
    let Ok(method) = method.parse::<Method>() else {
        return Exit::Input.with(&format!("`{}` is no method", method.escape_debug()));
    };
    let Some(target) = target_of(url) else {
        return Exit::Input
            .with(&format!("`{}` is neither a path nor a URL; write /path or https://host/path", url.escape_debug()));
    };
    let services = match examine::services() {
        Ok(services) => services,
        Err(why) => return Exit::Environment.with(&why),
    };
    // What a route stands on is only known with its keys.
    let services = services.with_keys(kms::reader(&loaded.config.kms, &services.metrics));
    match Policy::compile(&loaded.config, &services) {
        Ok((policy, _)) => {
            let mut text = describe(&policy, &loaded.config, &method, &target);
            match credentials.decision(&policy, &method, &target) {
                Ok(decision) => text.push_str(&decision),
                Err(why) => return Exit::Input.with(&why),
            }
            print(text.as_bytes())
        }
        Err(faults) => {
            check::report(&loaded.source, &faults);
            Exit::of(&faults).code()
        }
    }
}

/// What a client would put into the request line for a URL: path and query, without the fragment. A path is one already, and
/// so is the `*` of OPTIONS.
fn target_of(url: &str) -> Option<Cow<'_, str>> {
    if url.starts_with('/') || url == "*" {
        return Some(url.into());
    }
    let (scheme, rest) = url.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let target = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
    Some(if target.starts_with('/') { target.into() } else { format!("/{target}").into() })
}

fn describe(policy: &Policy, config: &model::Config, method: &Method, target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    // The answers that no route has a say in, as the gate and `admit` give them.
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        let why = "methods are case-sensitive, and none has a lower-case letter";
        return answer(method, path, Code::RequestMalformed, why);
    }
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        return answer(method, path, Code::MethodNotAllowed, "the gateway passes neither CONNECT nor TRACE on");
    }
    if path == KEYS_PATH && policy.assertions.is_some() {
        let methods = [Method::GET, Method::HEAD];
        let told =
            if methods.contains(method) { "200, the keys of `[identity_assertion]`" } else { "405 METHOD_NOT_ALLOWED" };
        return format!("{method} {path}\n  answered by the gateway: {told}\n");
    }
    if path == "*" {
        return if *method == Method::OPTIONS {
            answer(method, path, Code::RouteNotFound, "no route matches `*`")
        } else {
            answer(method, path, Code::RequestMalformed, "`*` is a target of OPTIONS alone")
        };
    }
    let canonical =
        match canonical_path(path).and_then(|canonical| query.map_or(Ok(()), check_query).map(|()| canonical)) {
            Ok(canonical) => canonical,
            Err(why) => return answer(method, path, Code::RequestMalformed, why.0),
        };
    if config.server.key_delivery && delivery::is_for(&canonical) {
        return delivered::explain(policy, method, &canonical, query.unwrap_or_default());
    }
    match policy.find(&canonical, method) {
        Found::Nothing => answer(method, &canonical, Code::RouteNotFound, "no route matches this path"),
        Found::OtherMethods(methods) => {
            let allowed: Vec<&str> = methods.iter().map(Method::as_str).collect();
            let why = format!("this path takes {}", allowed.join(", "));
            answer(method, &canonical, Code::MethodNotAllowed, &why)
        }
        Found::Route(index) => route(policy.route(index), config, &config.routes[index], (method, &canonical)),
    }
}

/// Where limits are counted, and what an outage of it does to them.
fn counters(state: &model::State) -> String {
    let alone = "n instances let n times as much pass";
    match (state.store, &state.redis) {
        (model::Store::Redis, Some(redis)) => {
            let outage = match redis.on_outage {
                OnOutage::Local => format!(
                    "each instance decides by what it has let pass itself: {alone}, and one never more than a limit, whatever Redis does"
                ),
                OnOutage::Open => "everything passes uncounted".to_owned(),
                OnOutage::Closed => "everything is refused with 503".to_owned(),
            };
            let servers = match (&redis.sentinel, redis.cluster) {
                (Some(sentinel), _) => format!("Redis (`{}` of its Sentinels)", sentinel.master),
                (None, true) => "Redis Cluster".to_owned(),
                (None, false) => "Redis".to_owned(),
            };
            format!(
                "{servers}, for all instances together; where it gives no answer within {}: {outage}",
                redis.timeout
            )
        }
        _ => format!(
            "memory of this instance ({alone}), at most {} keys; beyond them new ones share one per network{}",
            state.max_keys,
            match &state.snapshot {
                Some(path) => format!("; windows of 5 min and longer outlive a restart in {}", path.display()),
                None => String::new(),
            }
        ),
    }
}

/// What the mode makes of a rule's bound, and its own outage.
fn shared(state: &model::State, name: &str, rule: &model::RateLimit) -> Option<String> {
    let redis = state.redis.as_ref().filter(|_| state.store == model::Store::Redis)?;
    let adaptive =
        (redis.mode, rule.algorithm, rule.penalty) == (RedisMode::Adaptive, LimitAlgorithm::SlidingWindow, None);
    let instances = redis.instances.unwrap_or(1);
    let excess = adaptive_excess(rule.limit, instances).filter(|_| adaptive);
    let mut line = match excess {
        Some(excess) => format!(
            "{name}: adaptive, in a sudden burst at most {} in any {} with {instances} instances, else as said above",
            rule.limit + excess,
            rule.window
        ),
        None => format!("{name}: sync, the bound holds for all instances together"),
    };
    if let Some(outage) = rule.on_outage {
        let outage = match outage {
            OnOutage::Local => "each instance decides by what it has let pass itself",
            OnOutage::Open => "everything passes uncounted",
            OnOutage::Closed => "everything is refused with 503",
        };
        line += &format!("; without Redis {outage}");
    }
    Some(line)
}

pub(super) fn answer(method: &Method, path: &str, code: Code, why: &str) -> String {
    format!("{method} {path}\n  answered by the gateway: {} {} ({why})\n", code.status().as_u16(), code.name())
}

fn route(route: &Route, config: &model::Config, written: &model::Route, (method, path): (&Method, &str)) -> String {
    let mut text = String::new();
    let methods = if written.methods.is_empty() { "all".to_owned() } else { written.methods.join(", ") };
    // Writing into a String does not fail.
    let _ = writeln!(text, "{method} {path}");
    let _ = writeln!(text, "  route            {} (path {}, methods {methods})", route.name, written.path);
    if written.auth.is_empty() {
        let _ = writeln!(text, "  authentication   none: the route is public");
    }
    for (stage, lines) in route.chain.explain() {
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { stage.name() } else { "" };
            let _ = writeln!(text, "  {name:<16} {line}");
        }
        let encryption = route.encryption.as_ref().filter(|_| stage == Stage::Decryption);
        if let Some(line) = encryption.and_then(|encryption| encryption.explain_end(seal::now())) {
            let _ = writeln!(text, "                   {line}");
        }
    }
    if !written.rate_limits.is_empty() {
        let _ = writeln!(text, "  counters         {}", counters(&config.state));
        for line in
            written.rate_limits.iter().filter_map(|name| shared(&config.state, name, config.rate_limits.get(name)?))
        {
            let _ = writeln!(text, "                   {line}");
        }
    }
    if let Some(max) = written.max_in_flight {
        let (queue, patience) = (written.queue, written.queue_timeout);
        let _ = writeln!(text, "  in flight        at most {max}; {queue} more wait, for {patience} at most; else 503");
    }
    if let Some(max) = config.limits.max_in_flight {
        let (name, share) = (written.priority.name(), written.priority.share(max));
        let _ = writeln!(
            text,
            "  priority         {name}: refused with 503 while {share} of at most {max} of all routes are in flight"
        );
    }
    let _ = writeln!(text, "  body limit       {} bytes", route.max_body);
    let way = if route.encryption.as_ref().is_some_and(|entry| entry.streams()) {
        "sealed both ways as they come: the first record opens before any upstream is contacted"
    } else if route.chain.needs_body() {
        "buffered: read whole before any upstream is contacted, answered whole"
    } else {
        "pass unseen: up to 64 KiB of known length are read first, all else streams"
    };
    let _ = writeln!(text, "  bodies           {way}");
    let withheld = route.withheld.explain();
    if !withheld.is_empty() {
        let _ = writeln!(text, "  withheld         {}", withheld.join(", "));
    }
    let servers = config.upstreams.get(&*route.upstream).map_or(&[][..], |upstream| &upstream.servers);
    let servers: Vec<String> = servers.iter().map(Address::to_string).collect();
    let _ =
        writeln!(text, "  upstream         {} ({}), timeout {:?}", route.upstream, servers.join(", "), route.timeout);
    text
}

#[cfg(test)]
mod tests {
    use gapura_config::units::Period;

    use super::*;

    #[test]
    fn the_target_is_what_a_client_would_send() {
        for (url, target) in [
            ("/a?b=c", "/a?b=c"),
            ("*", "*"),
            ("https://x/a?b#c", "/a?b"),
            ("HTTPS://x/a", "/a"),
            ("https://x", "/"),
            ("https://x?y=/a", "/?y=/a"),
            ("http://x#/a", "/"),
        ] {
            assert_eq!(target_of(url).as_deref(), Some(target), "{url}");
        }
        for url in ["a", "ftp://x/a", "x/a", ""] {
            assert_eq!(target_of(url), None, "{url}");
        }
    }

    #[test]
    fn an_outage_is_told_as_the_operator_wants_it() {
        let state = |text: &str| {
            let text = format!(
                "[server]\nhttp = [\"127.0.0.1:1\"]\nplaintext = true\n[upstreams.u]\nservers = [\"127.0.0.1:2\"]\n\
                 [[routes]]\nname = \"r\"\npath = \"/**\"\nupstream = \"u\"\n[state]\n{text}"
            );
            counters(&gapura_config::parse("test", &text).unwrap_or_else(|faults| panic!("{faults}")).config.state)
        };
        assert!(state("max_keys = 5000").starts_with("memory of this instance (n instances"));
        assert!(state("max_keys = 5000").contains("at most 5000 keys"));
        let kept = "one per network; windows of 5 min and longer outlive a restart in /a/counters";
        assert!(state("snapshot = \"/a/counters\"").ends_with(kept));
        for (on_outage, told) in [
            (
                "local",
                "each instance decides by what it has let pass itself: n instances let n times as much pass, and one never \
                 more than a limit",
            ),
            ("open", "everything passes uncounted"),
            ("closed", "everything is refused with 503"),
        ] {
            let told = format!("Redis, for all instances together; where it gives no answer within 20ms: {told}");
            let redis = format!("store = \"redis\"\nredis = {{ url = \"env:R\", on_outage = \"{on_outage}\" }}");
            assert!(state(&redis).starts_with(&told), "{}", state(&redis));
        }
    }

    #[test]
    fn the_bound_of_each_mode_is_told_for_each_rule() {
        let redis = |mode, instances| {
            let url = "env:R".parse().unwrap();
            let redis = model::Redis { mode, instances, ..model::Redis::new(url) };
            model::State { store: model::Store::Redis, redis: Some(redis), ..model::State::default() }
        };
        let rule = |limit| model::RateLimit::new(limit, Period::secs(60), model::LimitKey::ClientIp);
        let told = |state: &model::State, rule: &model::RateLimit| shared(state, "general", rule).unwrap();
        let adaptive = redis(RedisMode::Adaptive, Some(3));
        let burst = "general: adaptive, in a sudden burst at most 106 in any 1m with 3 instances, else as said above";
        assert_eq!(told(&adaptive, &rule(100)), burst);
        let sync = "general: sync, the bound holds for all instances together";
        // Too few for a share, another algorithm, another mode.
        assert_eq!(told(&adaptive, &rule(59)), sync);
        assert_eq!(told(&adaptive, &model::RateLimit { algorithm: LimitAlgorithm::Gcra, ..rule(100) }), sync);
        assert_eq!(told(&redis(RedisMode::Sync, None), &rule(100)), sync);
        let closed = model::RateLimit { on_outage: Some(OnOutage::Closed), ..rule(100) };
        assert!(told(&adaptive, &closed).ends_with("; without Redis everything is refused with 503"));
        assert_eq!(shared(&model::State::default(), "general", &rule(100)), None);
    }
}
