//! Bad configurations, and what is said about each: a part of the message, a part of the help, line and column.

use std::fmt::Write as _;

use gapura_config::{
    fault::{Fault, Severity},
    parse,
};

/// A whole configuration without a fault. A case replaces one of its sections, or adds to the end.
const SECTIONS: &[(&str, &str)] = &[
    ("server", "[server]\nhttps = [\"0.0.0.0:8443\"]\n"),
    ("tls", "[tls]\nself_signed = true\n"),
    ("limits", ""),
    ("state", ""),
    ("lockout", ""),
    ("upstreams", "[upstreams.app]\nservers = [\"127.0.0.1:8000\"]\n"),
    ("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\n"),
    ("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\nsalt = \"env:B\"\nkeys = []\n"),
    ("rate_limits", "[rate_limits.slow]\nlimit = 10\nwindow = \"1s\"\nby = \"user\"\n"),
    ("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\n"),
    (
        "routes",
        "[[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"app\"\nauth = [\"jwt.users\", \"api_keys.devs\"]\n\
         rate_limits = [\"slow\"]\nencryption = \"body\"\n",
    ),
];

/// The configuration with one section replaced, and the line before that section.
fn with(section: &str, text: &str) -> (String, usize) {
    let (mut whole, mut before) = (String::new(), 0);
    for (name, sound) in SECTIONS {
        if *name == section {
            before = whole.lines().count();
            whole.push_str(text);
            whole.push('\n');
        } else {
            whole.push_str(sound);
        }
    }
    (whole, before)
}

struct Case {
    section: &'static str,
    text: &'static str,
    /// Line within the section, column.
    at: (usize, usize),
    message: &'static str,
    help: &'static str,
    severity: Severity,
}

const fn error(
    section: &'static str,
    text: &'static str,
    at: (usize, usize),
    message: &'static str,
    help: &'static str,
) -> Case {
    Case { section, text, at, message, help, severity: Severity::Error }
}

const fn warning(
    section: &'static str,
    text: &'static str,
    at: (usize, usize),
    message: &'static str,
    help: &'static str,
) -> Case {
    Case { section, text, at, message, help, severity: Severity::Warning }
}

#[rustfmt::skip]
const SHAPE: &[Case] = &[
    // Syntax.
    error("state", "[state]\nstore = memory", (2, 9), "not TOML: string values must be quoted", "write the value in quotes"),
    error("state", "[state]\nstore = \"memory\"\nstore = \"memory\"", (3, 1), "not TOML: duplicate key", "put their contents together, or remove one"),
    error("server", "[server]\nhttps = [\"a:1\"]\nhttps = []", (3, 1), "not TOML: duplicate key", "put their contents together, or remove one"),
    error("state", "[state\nstore = \"memory\"", (1, 7), "not TOML: unclosed table", "close it: `[table]`; other faults of the file may show only once it is TOML"),
    // Unknown keys.
    error("server", "[server]\nhttp = []\nhttps = [\"a:1\"]\ntrustedProxies = []", (4, 1), "unknown key `trustedProxies` in `[server]`", "did you mean `trusted_proxies`?"),
    error("server", "[server]\nhttps = [\"a:1\"]\ntrusted-proxies = []", (3, 1), "unknown key `trusted-proxies`", "did you mean `trusted_proxies`?"),
    error("server", "[server]\nhttps = [\"a:1\"]\nAdmin = \"a:2\"", (3, 1), "unknown key `Admin`", "did you mean `admin`?"),
    error("server", "server = { https = [\"a:1\"], max_head = \"1KiB\" }", (1, 29), "unknown key `max_head`", "`max_head` belongs in `[limits]`"),
    error("server", "[server]\nhttps = [\"a:1\"]\nqwertz = 1", (3, 1), "unknown key `qwertz`", "known here are `access_log`, `admin`, `http`, `https`, `key_delivery`, `plaintext`, `threads` and `trusted_proxies`"),
    error("limits", "[limit]", (1, 2), "unknown key `limit` in the file", "did you mean `[limits]`?"),
    error("limits", "[[route]]", (1, 3), "unknown key `route`", "did you mean `[[routes]]`?"),
    error("limits", "[ratelimits.a]", (1, 2), "unknown key `ratelimits`", "did you mean `[rate_limits.NAME]`?"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nclaims.user = \"sub\"", (4, 8), "unknown key `user` in `jwt.users.claims`", "known here are `email`"),
    error("upstreams", "[upstreams]\nservers = [\"a:1\"]\napp.servers = [\"a:1\"]", (2, 1), "`servers` stands in `[upstreams]`, which holds named tables", "`[upstreams.NAME]`"),
    // Missing keys.
    error("upstreams", "[upstreams.app]\ntls = false", (1, 12), "`[upstreams.app]` has no `servers`", "add `servers = [\"127.0.0.1:8000\"]`"),
    error("encryption", "[encryption.body]\nmaster_key = \"env:C\"", (1, 13), "`[encryption.body]` has no `profile`", "add `profile = \"cryptojs\"`"),
    error("state", "[state]\nstore = \"redis\"\nredis = {}", (3, 1), "`state.redis` has no `url`", "add `url = \"env:NAME\"`"),
    // Types.
    error("limits", "[limits]\nidle_timeout = 30", (2, 16), "`idle_timeout` is a duration with its unit, in quotes; this is a number", "write \"30s\""),
    error("limits", "[limits]\nidle_timeout = 0.25", (2, 16), "this is a number with a fraction", "write \"250ms\""),
    error("limits", "[limits]\nmax_head = 16384", (2, 12), "`max_head` is a size with its unit", "write \"16KiB\""),
    error("limits", "[limits]\nmax_headers = \"100\"", (2, 15), "`max_headers` is a whole number, without quotes; this is a string", "write 100"),
    error("limits", "[limits]\nmax_headers = 100.0", (2, 15), "this is a number with a fraction", "write 100"),
    error("limits", "limits = 5", (1, 1), "unknown key `limits` in `[tls]`", "write it as a table of its own: `[limits]`"),
    error("server", "limits = 5\n[server]\nhttps = [\"a:1\"]", (1, 10), "`limits` is a table, this is a number", "`[limits]`"),
    error("server", "[server]\nhttps = \"a:1\"", (2, 9), "`https` is a list, this is a string", "write https = [\"a:1\"]"),
    error("server", "[server]\nhttps = [\"a:1\"]\nadmin = 9180", (3, 9), "`admin` is a string, in quotes; this is a number", "write \"127.0.0.1:9180\""),
    error("server", "[server]\nhttps = [\"a:1\"]\naccess_log = \"yes\"", (3, 14), "`access_log` is true or false, without quotes", "write true"),
    error("server", "[server]\nhttps = [[\"a:1\"]]", (2, 10), "`https` is a string, in quotes; this is a list", "write \"a:1\""),
    error("tls", "[tls]\nself_signed = true\nmin_version = 1.2", (3, 15), "`min_version` is a string", "write it in quotes: \"1.2\""),
    error("state", "[state.redis]\nurl = \"env:R\"\nsentinel = { tls = true }", (3, 1), "`state.redis.sentinel` has no `master`", ""),
    error("state", "[state.redis]\nurl = \"env:R\"\nsentinel = { master = \"m\", password = \"hunter2\" }", (3, 39), "a secret is never written here", "\"env:NAME\""),
    error("state", "[state.redis]\nurl = \"env:R\"\nmode = \"async\"", (3, 8), "`async` is not a value of `mode`", "\"sync\""),
    error("state", "[state.redis]\nurl = \"env:R\"\ninstances = 0", (3, 13), "`instances` is 0, which is out of range", "from 1 to 10000"),
    error("state", "[state]\nredis = 5", (2, 9), "`redis` is a table, this is a number", "write { url = \"env:NAME\" }"),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmax_age = false", (4, 11), "`max_age` is a duration", "write \"off\""),
    error("routes", "[routes]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"", (1, 1), "`[routes]` is one table; there may be several", "write each of them as `[[routes]]`"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nmethods = \"GET, POST\"\nupstream = \"app\"", (4, 11), "`methods` is a list, this is a string", "write methods = [\"GET\", \"POST\"]"),
    // Choices and ranges.
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\nalgorithm = \"slidingwindow\"", (5, 13), "`slidingwindow` is not a value of `algorithm`", "did you mean \"sliding_window\"? It takes \"sliding_window\", \"sliding_log\" or \"gcra\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\nmode = \"observed\"", (5, 8), "`observed` is not a value of `mode`", "did you mean \"observe\"?"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { max = 4 }", (5, 1), "`rate_limits.slow.cost` has no `header`", "add `header = \"X-Api-Key\"`"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"X-Cost:\", max = 4 }", (5, 19), "`X-Cost:` is not a header name", "without a colon"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"X-Cost\", max = 4, least = 1 }", (5, 38), "unknown key `least` in `rate_limits.slow.cost`", "known here are `default`, `header` and `max`"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = \"5\"", (5, 8), "`cost` is a whole number, without quotes", "write 5"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = 0", (5, 8), "`cost` is 0, which is out of range", "from 1 to 1000000000"),
    error("state", "[state]\nstore = \"sql\"", (2, 9), "`sql` is not a value of `store`", "write \"memory\" or \"redis\""),
    error("limits", "[limits]\nmax_headers = 0", (2, 15), "`max_headers` is 0, which is out of range", "write a number from 1 to 250"),
    error("server", "[server]\nhttps = [\"a:1\"]\nthreads = -1", (3, 11), "`threads` is -1, which is out of range", "of at least 0"),
    error("upstreams", "[upstreams.app]\nservers = []", (2, 11), "this list is empty", "write [\"127.0.0.1:8000\"]"),
    // Formats.
    error("limits", "[limits]\nidle_timeout = \"30\"", (2, 16), "`30` is not a duration", "write a number and a unit"),
    error("limits", "[limits]\nidle_timeout = \"0s\"", (2, 16), "no time at all", "write a duration above zero: \"1s\""),
    error("limits", "[limits]\nidle_timeout = \"99999999999999999999s\"", (2, 16), "longer than a century", "write a shorter one"),
    error("limits", "[limits]\nmax_head = \"99999999999999GiB\"", (2, 12), "more than 1024 GiB", "write a smaller one"),
    error("limits", "[limits]\nmax_head = \"1MB\"", (2, 12), "`1MB` is not a size", "\"1MiB\""),
    error("server", "[server]\nhttps = [\"8443\"]", (2, 10), "`8443` is not an address: the port is missing", "write \"127.0.0.1:8000\""),
    error("upstreams", "[upstreams.app]\nservers = [\"http://127.0.0.1:80\"]", (2, 12), "has no scheme and no path", "write \"127.0.0.1:80\""),
    error("upstreams", "[upstreams.app]\nservers = [\"https://api.internal/v1\"]", (2, 12), "has no scheme and no path", "write \"api.internal:443\""),
    error("upstreams", "[upstreams.app]\nservers = [\"tcp://a:80\"]", (2, 12), "an address has no scheme", "write \"127.0.0.1:8000\""),
    error("upstreams", "[upstreams.app]\nservers = [\"256.1.1.1:80\"]", (2, 12), "an IPv4 address has four numbers", "write \"127.0.0.1:8000\""),
    error("upstreams", "[upstreams.app]\nservers = [\"1.2.3:80\"]", (2, 12), "an IPv4 address has four numbers", "write \"127.0.0.1:8000\""),
    error("upstreams", "[upstreams.app]\nservers = [\"-:80\"]", (2, 12), "no host has such a name", "write \"127.0.0.1:8000\""),
    error("upstreams", "[upstreams.app]\nservers = [\"a..b:80\"]", (2, 12), "no host has such a name", "write \"127.0.0.1:8000\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:\"", (3, 10), "`env:` takes the name", "write \"env:NAME\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"file:\"", (3, 10), "`file:` takes a path", "write \"file:/path\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"vault:key/7\"", (3, 10), "`vault:` is no place that secrets are read from", "write \"env:NAME\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"kms:key/7\"", (3, 10), "`kms:` takes what holds a ciphertext", "write \"kms:file:/path\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"kms:key:a b\"", (3, 10), "`kms:key:` takes a key of AWS KMS", "kms:key:alias/NAME"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"kms:env:\"", (3, 10), "`env:` takes the name", "write \"env:NAME\""),
    error("limits", "[kms]\ncache = \"6m\"", (2, 9), "`6m` is out of range", "from 1 s to 5 min"),
    error("limits", "[kms]\ntimeout = \"2m\"", (2, 11), "`2m` is out of range", "from 100 ms to 30 s"),
    error("limits", "[kms]\ncache = \"4s\"", (1, 1), "it could end while KMS is asked", "at most a quarter of `cache`"),
    error("limits", "[kms]\nendpoint = \"http://kms.example\"", (2, 12), "keys would travel in the clear", "https://"),
    error("limits", "[kms]\nendpoint = \"https://kms.example:99999\"", (2, 12), "this is no address", "https://"),
    error("limits", "[kms]\nregion = \"\"", (2, 10), "`` is no region of AWS", "\"eu-central-1\""),
    error("limits", "[kms]\nregion = \"eu west\"", (2, 10), "`eu west` is no region of AWS", "\"eu-central-1\""),
    error("limits", "[kms]\nencryption_context = { \"\" = \"x\" }", (2, 22), "a name in it is empty", "service = \"gapura\""),
    error("limits", "[kms]\nmax_calls = 0", (2, 13), "0", "1"),
    error("api_keys", "[api_keys.devs]\nsalt = \"env:B\"\nscheme = \"ApiKey\"\nkeys = [{ id = \"a\", hash = \"0000000000000000000000000000000000000000000000000000000000000000\", user_id = \"u\", email = \"a@b.c\", key = \"k\" }]", (4, 128), "unknown key `key`", "an API key itself never stands here: write `hash`"),
    error("server", "[server]\nhttps = [\"a:1\"]\ntrusted_proxies = [\"10.0.0.1\"]", (3, 20), "`10.0.0.1` is not a network", "write \"10.0.0.1/32\""),
    error("api_keys", "[api_keys.devs]\nheader = \"X-Key:\"\nsalt = \"env:B\"\nkeys = []", (2, 10), "`X-Key:` is not a header name", "without a colon"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\njwks = \"http://id.example/keys\"", (3, 8), "keys fetched in the clear", "https://host/path"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\njwks = \"/etc/jwks.json\"", (3, 8), "not the place of a key set", "file:/path"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"ip\"", (4, 6), "`ip` is no key to count by", "write \"client_ip\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"route, user\"", (4, 6), "`route, user` is no key to count by", "write a list for each combination of values: [\"route\", \"user\"]"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = [\"route\", \"usr\"]", (4, 16), "`usr` is no key to count by", "write \"client_ip\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = []", (4, 6), "this list is empty", "write [\"client_ip\"]"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = 5", (4, 6), "`by` is a string, in quotes; this is a number", "write \"client_ip\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = { user = true }", (4, 6), "`by` is a string, in quotes; this is a table", "write \"client_ip\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"", (1, 14), "`[rate_limits.slow]` has no `by`", "add `by = \"client_ip\"`"),
    warning("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nmethods = [\"get\"]", (5, 12), "no client sends `get`", "write \"GET\""),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nmethods = [\"GET\", \"TRACE\"]", (5, 19), "a request with `TRACE` never reaches a route", "leave it out"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nmethods = [\"CONNECT\"]", (5, 12), "a request with `CONNECT` never reaches a route", "leave it out"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nmethods = [\"GET POST\"]", (5, 12), "`GET POST` is not an HTTP method", "[\"GET\", \"POST\"]"),
];

const fn path(text: &'static str, message: &'static str) -> (&'static str, &'static str) {
    (text, message)
}

const PATHS: &[(&str, &str)] = &[
    path("orders", "does not start with `/`"),
    path("", "does not start with `/`"),
    path("/a//b", "`//` never stands"),
    path("/a/../b", "`.` and `..` are gone"),
    path("/./a", "`.` and `..` are gone"),
    path("/a*", "`a*` mixes `*`"),
    path("/***", "`***` mixes `*`"),
    path("/**/b", "`**` stands only at the end"),
    path("/a?x=1", "`?` is not part of a path"),
    path("/a#b", "`#` is not part of a path"),
    path("/a;v=1", "always refused as ambiguous"),
    path("/a\\\\b", "always refused as ambiguous"),
    path("/%7Ea", "`%7E` is decoded before"),
    path("/%2e%2e/a", "`%2e` is decoded before"),
    path("/a%2Fb", "always refused as ambiguous"),
    path("/a%00", "always refused as ambiguous"),
    path("/%c3%A9", "`%c3` is written `%C3`"),
    path("/100%", "starts an encoded octet"),
    path("/é", "never stands in a target as it is"),
    path("/a b", "never stands in a target as it is"),
];

const GOOD_PATHS: &[&str] =
    &["/", "/*", "/**", "/a/", "/a/*/b", "/a/*/b/**", "/caf%C3%A9", "/a.b/~me/x:y@z", "/a/...", "/%20"];

#[rustfmt::skip]
const DATES: &[(&str, &str, &str)] = &[
    ("\"2035-01-01T00:00:00Z\"", "this date is written as a string", "write it without quotes: 2035-01-01T00:00:00Z"),
    ("2035-01-01", "this date has no time", "write 2035-01-01T00:00:00Z"),
    ("2035-01-01T00:00:00", "this time has no offset", "write 2035-01-01T00:00:00Z for UTC"),
    ("07:30:00", "this is a time of day", "2027-01-01T00:00:00Z"),
    ("\"soon\"", "`expires` is a date, this is a string", "2027-01-01T00:00:00Z"),
    ("1735689600", "`expires` is a date, this is a number", "2027-01-01T00:00:00Z"),
];

/// For faults that stand in another section than the case's.
const ANYWHERE: (usize, usize) = (0, 0);

/// Every fault of a text, warnings among them.
fn faults(text: &str) -> (gapura_config::Source, Vec<Fault>) {
    match parse("gapura.toml", text) {
        Ok(loaded) => (loaded.source, loaded.warnings),
        Err(faults) => (faults.source, faults.faults),
    }
}

fn check_case(case: &Case, failures: &mut String) {
    let (text, before) = with(case.section, case.text);
    let (source, faults) = faults(&text);
    let found = faults.iter().any(|fault| {
        let (line, column) = source.locate_fault(fault).unwrap_or_default();
        fault.message.contains(case.message)
            && fault.help.as_deref().unwrap_or_default().contains(case.help)
            && fault.severity == case.severity
            && (case.at == ANYWHERE || (line.saturating_sub(before), column) == case.at)
    });
    let helpless: Vec<&Fault> = faults.iter().filter(|fault| fault.help.is_none()).collect();
    if !helpless.is_empty() {
        let _ = writeln!(failures, "--- without help: {helpless:?}");
    }
    let others = faults.iter().filter(|fault| !fault.message.contains(case.message));
    let alone = others.filter(|fault| fault.severity == Severity::Error).count() == 0;
    if !found || !alone {
        let report = source.render(&faults, false);
        let _ = writeln!(failures, "--- {:?} at {:?}, alone: {alone}\n{}\n{report}", case.message, case.at, case.text);
    }
}

fn check_all(cases: &[Case]) {
    let mut failures = String::new();
    for case in cases {
        check_case(case, &mut failures);
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn the_sound_configuration_has_no_fault() {
    let (source, faults) = faults(&with("", "").0);
    let others: Vec<Fault> = faults.into_iter().filter(|fault| !fault.message.contains("the list is empty")).collect();
    assert!(others.is_empty(), "{}", source.render(&others, false));
}

#[test]
fn shapes() {
    check_all(SHAPE);
}

#[test]
fn path_patterns() {
    for (path, message) in PATHS {
        let text = format!("[[routes]]\nname = \"a\"\npath = \"{path}\"\nupstream = \"app\"\n");
        let (source, faults) = faults(&with("routes", &text).0);
        let fault = faults.iter().find(|fault| fault.message.contains(message));
        assert!(fault.is_some_and(|fault| fault.help.is_some()), "{path}\n{}", source.render(&faults, false));
    }
    for path in GOOD_PATHS {
        let text = format!("[[routes]]\nname = \"a\"\npath = \"{path}\"\nupstream = \"app\"\n");
        assert!(parse("good", &with("routes", &text).0).is_ok(), "{path}");
    }
}

#[test]
fn dates() {
    let keys = |date: &str| {
        let hash = "0".repeat(64);
        let key = format!("{{ id = \"ci\", hash = \"{hash}\", user_id = \"u\", expires = {date} }}");
        with("api_keys", &format!("[api_keys.devs]\nscheme = \"ApiKey\"\nsalt = \"env:B\"\nkeys = [{key}]")).0
    };
    for (date, message, help) in DATES {
        let (source, faults) = faults(&keys(date));
        let fault = faults.iter().find(|fault| fault.message.contains(message));
        let helped = fault.is_some_and(|fault| fault.help.as_deref().unwrap_or_default().contains(help));
        assert!(helped && faults.len() == 1, "{date}\n{}", source.render(&faults, false));
    }
    for date in ["2035-01-01T00:00:00Z", "2035-01-01 00:00:00+07:00"] {
        assert!(parse("good", &keys(date)).is_ok(), "{date}");
    }
}

#[path = "faults/foreign_keys.rs"]
mod foreign_keys;
#[path = "faults/identity.rs"]
mod identity;
#[path = "faults/keyrings.rs"]
mod keyrings;
#[path = "faults/rules.rs"]
mod rules;

#[test]
fn a_key_that_stands_twice_hides_no_other_fault() {
    let text =
        with("routes", "[[routes]]\nname = \"a\"\nname = \"b\"\npath = \"/\"\nupstream = \"nowhere\"\nqwertz = 1").0;
    let (source, faults) = faults(&text);
    for part in ["duplicate key", "nowhere", "qwertz"] {
        assert!(faults.iter().any(|fault| fault.message.contains(part)), "{part}: {}", source.render(&faults, false));
    }
}

#[test]
fn a_text_that_is_not_toml_says_that_it_may_hide_others() {
    let (source, faults) = faults(&format!("{}\nfoo = \"\nbar = [1,,2]\n", with("", "").0));
    let told = faults.iter().filter(|fault| fault.help.as_deref().unwrap_or_default().contains("only once it is TOML"));
    assert_eq!(told.count(), 1, "{}", source.render(&faults, false));
}

#[test]
fn port_0_of_a_server_is_not_the_port_0_of_a_listener() {
    let server = with("server", "[server]\nhttps = [\"127.0.0.1:0\"]").0;
    let (source, faults) = faults(&server.replace("127.0.0.1:8000", "127.0.0.1:0"));
    let errors: Vec<&Fault> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{}", source.render(&faults, false));
    assert!(errors[0].message.contains("port 0"));
}

#[test]
fn plaintext_is_for_the_same_host() {
    let (source, faults) = faults(&with("server", "[server]\nhttp = [\"127.0.0.1:8080\"]\nplaintext = true").0);
    let report = source.render(&faults, false);
    assert!(
        report.contains("behind something that ends TLS on the same host") && !report.contains("or network"),
        "{report}"
    );
}
