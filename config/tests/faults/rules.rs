//! What the tables say about each other.

use super::{ANYWHERE, Case, check_all, error, faults, warning, with};

#[rustfmt::skip]
const LISTENERS: &[Case] = &[
    error("server", "[server]\nadmin = \"127.0.0.1:1\"", (1, 2), "the gateway listens nowhere", "https = "),
    error("tls", "", ANYWHERE, "listeners with TLS need certificates", "add `[tls]`"),
    error("tls", "[tls]\nmin_version = \"1.3\"", (1, 2), "`[tls]` has no certificate", "self_signed = true"),
    error("tls", "[tls]\nself_signed = true\ncertificates = [{ cert = \"a\", key = \"b\" }]", (2, 15), "there are `certificates` too", "keep one"),
    error("tls", "[tls]\nself_signed = true\nclient_auth = \"required\"", (3, 15), "client certificates need `client_ca`", "client_ca ="),
    error("tls", "[tls]\ncertificates = [{ cert = \"\", key = \"b\" }]", (2, 26), "this is empty", ""),
    error("tls", "[[tls.certificates]]\ncert = \"a\"\nkey = \"b\"\n[[tls.certificates]]\ncert = \"a\"\nkey = \"b\"", (4, 1), "this entry stands in the list already", "line 3"),
    error("server", "[server]\nplaintext = true\nhttps = [\"a:1\"]", (2, 13), "serves on `http`, which has no address", "http ="),
    warning("server", "[server]\nplaintext = true\nhttp = [\"a:1\"]\nhttps = [\"a:2\"]", (2, 13), "bodies and credentials travel in the clear", ""),
    error("server", "[server]\nhttp = [\"a:1\"]", (2, 8), "redirect to https, and there is no `https` listener", "plaintext = true"),
    warning("server", "[server]\nplaintext = true\nhttp = [\"a:1\"]", (4, 2), "no listener uses `[tls]`", ""),
    error("server", "[server]\nhttps = [\"a:1\", \"A:1\"]", (2, 17), "`A:1` is taken by `a:1`", "remove one"),
    error("server", "[server]\nhttps = [\"0.0.0.0:1\"]\nhttp = [\"127.0.0.1:1\"]", (3, 9), "`127.0.0.1:1` is taken by `0.0.0.0:1` (the other is on line 2)", ""),
    error("server", "[server]\nhttps = [\"0.0.0.0:1\"]\nadmin = \"127.0.0.1:1\"", (3, 9), "the admin API would stand on `0.0.0.0:1`, which is public", "port of its own"),
    error("server", "[server]\nhttps = [\"unix:/a\"]", (2, 10), "cannot listen on `unix:/a`", "write `host:port`"),
    error("server", "[server]\nhttps = [\"0.0.0.0:443\"]\nadmin = \"unix:/a\"", (3, 9), "cannot listen on `unix:/a`", "write `host:port`"),
    warning("server", "[server]\nhttps = [\"a:1\"]\nadmin = \"0.0.0.0:2\"", (3, 9), "can be reached from other hosts", "127.0.0.1"),
    warning("server", "[server]\nhttps = [\"a:1\"]\ntrusted_proxies = [\"0.0.0.0/0\"]", (3, 20), "is everyone", ""),
    warning("server", "[server]\nhttps = [\"a:1\"]\ntrusted_proxies = [\"10.0.0.1/8\"]", (3, 20), "`10.0.0.1/8` means all of `10.0.0.0/8`", "write \"10.0.0.0/8\""),
    error("server", "[server]\nhttps = [\"a:1\"]\nthreads = 5000", (3, 11), "more than 1024 threads", "0 for one per core"),
    error("limits", "[limits]\nmax_head = \"512B\"", (2, 12), "`512B` is out of range", "1KiB"),
    error("limits", "[limits]\nmax_in_flight = 0", (2, 17), "`max_in_flight` is 0, which is out of range", "from 1 to 1000000"),
    warning("limits", "[limits]\nhead_timeout = \"1h\"", (2, 16), "lets a slow client hold a connection", ""),
    error("state", "[state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:R\"\ncluster = true\nsentinel = { master = \"m\" }", (5, 11), "no Sentinel watches it", "remove `sentinel`, or `cluster`"),
    error("state", "[state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:R\"\nsentinel = { master = \"\" }", (5, 23), "", ""),
    error("state", "[state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:R\"\nsentinel = { master = \"m\", username = \"u\" }", (5, 39), "a user without a password", "password = \"env:REDIS_PASSWORD\""),
    error("state", "[state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:R\"\nmode = \"adaptive\"", (5, 8), "follows from how many count", "add `instances = 3`"),
    warning("state", "[state]\nstore = \"redis\"\n[state.redis]\nurl = \"env:R\"\ninstances = 3", (5, 13), "only `mode = \"adaptive\"` asks", "or write `mode = \"adaptive\"`"),
    warning("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\non_outage = \"closed\"", (5, 1), "the store is memory", "remove it, or write `store = \"redis\"`"),
    error("state", "[state]\nstore = \"redis\"", (2, 9), "no `redis` says where", "redis = { url"),
    warning("state", "[state]\nredis = { url = \"env:R\" }", (2, 1), "Redis is set up but not used", "store = \"redis\""),
    error("state", "[state]\nsnapshot = \"a\"\nstore = \"redis\"\nredis = { url = \"env:R\" }", (2, 1), "`snapshot` is of the memory store", "remove it"),
    warning("state", "[state]\nstore = \"redis\"\nredis = { url = \"env:R\", timeout = \"5s\" }", (3, 36), "a request may wait `5s`", ""),
];

#[rustfmt::skip]
const LOCKOUT: &[Case] = &[
    error("lockout", "[lockout]\nmode = \"on\"", (2, 8), "`on`", "enforce"),
    error("lockout", "[lockout]\nfailures = 1", (2, 12), "out of range", "2"),
    error("lockout", "[lockout]\nwindow = \"2h\"", (2, 10), "`2h` is out of range", "\"1s\" to \"1h\""),
    error("lockout", "[lockout]\nduration = \"10ms\"", (2, 12), "`10ms` is out of range", "\"1s\" to \"1d\""),
    error("lockout", "[lockout]\nduration = \"2h\"", (2, 12), "longer than the longest, `1h`", "raise `max_duration`"),
    error("lockout", "[lockout]\nexempt = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", (2, 25), "stands in the list already", ""),
    warning("lockout", "[lockout]\nexempt = [\"192.0.2.7/24\"]", (2, 11), "`192.0.2.7/24` means all of `192.0.2.0/24`", "\"192.0.2.7/32\" for the one address"),
    warning("lockout", "[lockout]\nexempt = [\"0.0.0.0/0\"]", (2, 11), "nobody is ever locked out", "mode = \"off\""),
];

#[rustfmt::skip]
const UPSTREAMS: &[Case] = &[
    error("upstreams", "[upstreams.app]\nservers = [\"10.0.0.1:443\"]\ntls = true", (3, 7), "`10.0.0.1:443` has no name to verify its certificate by", "server_name"),
    error("upstreams", "[upstreams.app]\nservers = [\"a:443\", \"unix:/a\"]\ntls = true", (3, 7), "`unix:/a` has no name", "server_name"),
    error("upstreams", "[upstreams.app]\nservers = [\"10.2.3.4:443\"]\ntls = true", (3, 7), "has no name", "server_name"),
    error("upstreams", "[upstreams.app]\nservers = [\"a:443\"]\ntls = true\nserver_name = \"\"", (4, 15), "is not a host name", ""),
    error("upstreams", "[upstreams.app]\nservers = [\"a:443\"]\ntls = true\nserver_name = \"https://a\"", (4, 15), "is not a host name", ""),
    error("upstreams", "[upstreams.app]\nservers = [\"a:80\"]\nserver_name = \"a\"", (3, 15), "`server_name` belongs to TLS", "add `tls = true`"),
    error("upstreams", "[upstreams.app]\nservers = [\"a:80\"]\nca = \"a.pem\"", (3, 6), "`ca` belongs to TLS", "add `tls = true`"),
    error("upstreams", "[upstreams.app]\nservers = [\"a:80\", \"a:80\"]", (2, 20), "stands in the list already", ""),
    error("upstreams", "[upstreams.app]\nservers = [\"a:0\"]", (2, 12), "port 0", ""),
    error("upstreams", "[upstreams.app]\nservers = [\"0.0.0.0:8443\"]", (2, 12), "is the gateway itself", ""),
    error("upstreams", "[upstreams.app]\nservers = [\"a:1\"]\n[upstreams.\"a b\"]\nservers = [\"a:1\"]", (3, 12), "\"a b\" cannot be a name", "1 to 64"),
    warning("upstreams", "[upstreams.app]\nservers = [\"a:1\"]\n[upstreams.old]\nservers = [\"a:1\"]", (3, 12), "no route uses `[upstreams.old]`", "remove it"),
];

#[rustfmt::skip]
const CALLERS: &[Case] = &[
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]", (1, 6), "has no key to verify tokens with", "`secret`"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\njwks = \"file:/a\"", (4, 1), "`secret` and `jwks` both say", "keep one"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\npublic_key = \"file:/a\"", (2, 15), "`HS256` is not verified with `public_key`", "take `secret`"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\", \"HS256\"]\njwks = \"file:/a\"", (2, 24), "`HS256` is not verified with `jwks`", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\nsecret = \"env:A\"", (2, 15), "`RS256` is not verified with `secret`", "HS256"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\", \"ES256\"]\npublic_key = \"file:/a\"", (2, 24), "one public key cannot verify both `RS256` and `ES256`", "jwks"),
    error("jwt", "[jwt.users]\nalgorithms = [\"ES256\", \"ES384\"]\npublic_key = \"file:/a\"", (2, 24), "different curves", "jwks"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\", \"HS256\"]\nsecret = \"env:A\"", (2, 24), "stands in the list already", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nissuer = \"\"", (4, 10), "this is empty", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\naudience = [\"\"]", (4, 13), "this is empty", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nclaims = { roles = \"\" }", (4, 20), "this is empty", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ntoken = \"cookie\"", (4, 9), "`cookie` is no place of a token", "\"cookie:NAME\""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ntoken = \"cookie:a b\"", (4, 9), "is no place of a token", "\"header\""),
    error("api_keys", "[api_keys.devs]\nheader = \"Cookie\"\nsalt = \"env:B\"\nkeys = []", (2, 10), "holds more than a key", "X-Api-Key"),
    error("api_keys", "[api_keys.devs]\nsalt = \"env:B\"\ndatabase = \"postgres://u:hunter2@db/keys\"", (3, 12), "this is no place of a database", "sqlite:/path"),
    error("api_keys", "[api_keys.devs]\nsalt = \"env:B\"\ndatabase = \"sqlite:keys.db?mode=rwc\"", (3, 12), "named by its path alone", "keys.db"),
    warning("api_keys", "[api_keys.devs]\nsalt = \"env:B\"\nscheme = \"ApiKey\"", (1, 1), "the list is empty", "keys hash"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\ndiscovery = true", (3, 1), "discovery starts from the issuer", "issuer ="),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\ndiscovery = true\nissuer = \"id\"", (4, 10), "\"id\" is not an address that discovery could start from", "https://"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\ndiscovery = true\nissuer = \"http://id\"", (4, 10), "is not an address that discovery", "https://"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\ndiscovery = true\nissuer = \"https://u@id\"", (4, 10), "is not an address that discovery", "https://"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\ndiscovery = true\nissuer = \"https://id\"\njwks = \"https://id/set\"", (3, 1), "`jwks` and `discovery` both say", "keep one"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\ndiscovery = true\nissuer = \"https://id\"", (2, 15), "`HS256` is not verified with `discovery`", "take `secret`"),
    error("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\njwks = \"file:/a\"\nca = \"a.pem\"", (4, 1), "`ca` is for keys that are fetched", "discovery = true"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\ntyp = \"\"", (4, 7), "this is empty", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nrequire = { iss = \"a\" }", (4, 13), "`iss` is not for `require`", "write `issuer`"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nrequire.iat = \"*\"", (4, 9), "`iat` is not for `require`", "write `max_age`"),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nrequire = { tenant = \"\" }", (4, 22), "this is empty", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nrequire = { verified = true }", (4, 24), "`verified` is a string, in quotes", ""),
    error("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nrequire = [\"tenant\"]", (4, 11), "`require` is a table, this is a list", "write { NAME = \"…\" }"),
    warning("jwt", "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\nleeway = \"1h\"", (4, 10), "accepted for `1h` after its end", ""),
    error("api_keys", "[api_keys.devs]\nscheme = \"\"\nsalt = \"env:B\"\nkeys = []", (2, 10), "is not a scheme", "ApiKey"),
    error("api_keys", "[api_keys.devs]\nscheme = \"Api Key\"\nsalt = \"env:B\"\nkeys = []", (2, 10), "a scheme is one word", "ApiKey"),
    error("api_keys", "[api_keys.devs]\nheader = \"X-User-Id\"\nsalt = \"env:B\"\nkeys = []", (2, 10), "a header that the gateway writes", "X-Api-Key"),
    error("api_keys", "[api_keys.devs]\nscheme = \"bearer\"\nsalt = \"env:B\"\nkeys = []\n#", ANYWHERE, "both stand behind `Authorization: Bearer`", "scheme = \"ApiKey\""),
    error("api_keys", "[api_keys.devs]\nsalt = \"env:B\"\nkeys = []", ANYWHERE, "takes every value of `Authorization` for a key", "scheme = \"ApiKey\""),
    warning("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\nsalt = \"env:B\"\nkeys = []", (4, 8), "nobody can present a key", ""),
];

#[rustfmt::skip]
const TRAFFIC: &[Case] = &[
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\nburst = 5", (5, 1), "`burst` belongs to `algorithm = \"gcra\"`", ""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 4097\nwindow = \"1s\"\nby = \"user\"\nalgorithm = \"sliding_log\"", (2, 9), "takes 16 KiB for each key", "4096"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"99ms\"\nby = \"user\"", (3, 10), "a window of `99ms` is out of range", "write \"100ms\" to \"31d\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = [\"user\", \"route\", \"user\"]", (4, 24), "stands in the list already", "remove one"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = [\"user\", \"global\"]", (4, 15), "`global` is the same for all", "by = \"global\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = [\"user\", \"route\", \"client_ip\", \"header:a\", \"header:b\"]", (4, 6), "a key of 5 parts", "at most 4"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\nmethods = [\"POST\", \"POST\"]", (5, 20), "stands in the list already", "remove one"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = 10", (5, 8), "a request that costs 10 never passes", "at most the `limit` of 9"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = 9\nalgorithm = \"gcra\"\nburst = 8", (5, 8), "a request that costs 9 never passes", "at most the `burst` of 8"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"X-Cost\", max = 10 }", (5, 35), "a request that may cost 10 never passes", "at most the `limit` of 9"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"X-Cost\", default = 5, max = 4 }", (5, 48), "a response that says nothing costs 5, above the most of 4", "at least 5"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"Content-Length\", max = 5 }", (5, 19), "`Content-Length` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"transfer-encoding\", max = 5 }", (5, 19), "`transfer-encoding` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"Connection\", max = 5 }", (5, 19), "`Connection` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"Set-Cookie\", max = 5 }", (5, 19), "`Set-Cookie` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"RateLimit-Policy\", max = 5 }", (5, 19), "`RateLimit-Policy` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\ncost = { header = \"X-Request-Id\", max = 5 }", (5, 19), "`X-Request-Id` would be removed from every response", "\"X-Cost\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"header:Connection\"", (4, 6), "`connection` says how one message is sent", "header:X-Tenant"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = [\"user\", \"header:Content-Length\"]", (4, 15), "`content-length` says how one message is sent", "header:X-Tenant"),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\npenalty = \"500ms\"", (5, 11), "a penalty of `500ms` is out of range", "write \"1s\" to \"1h\""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 9\nwindow = \"1s\"\nby = \"user\"\npenalty = \"1d\"", (5, 11), "a penalty of `1d` is out of range", ""),
    error("rate_limits", "[rate_limits.slow]\nlimit = 1\nwindow = \"32d\"\nby = \"user\"", (3, 10), "out of range", ""),
    warning("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmax_age = \"off\"", (4, 11), "an envelope of any age is accepted", "only for migrations"),
    warning("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmax_age = \"off\"\nkey_derivation = \"user_timestamp\"", (4, 11), "for ever", "only for migrations"),
    warning("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nreplay = \"off\"", (4, 10), "can be sent again", "only for migrations"),
    warning("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmax_response = \"1GiB\"", (4, 16), "held whole in memory", ""),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nfields = { data = \"x\", timestamp = \"x\" }", (4, 36), "`data` and `timestamp` are both the member \"x\"", ""),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nfields.data = \"userId\"", (4, 15), "`data` and `user_id` are both the member \"userId\"", ""),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nfields.data = \"\"", (4, 15), "this is empty", ""),
    warning("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\naccept_legacy_until = 2035-01-01", (4, 23), "after this day nothing is accepted", "list the profile"),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\naccept_legacy_until = \"2035-01-01\"", (4, 23), "this day is written as a string", "write a day without quotes: 2027-06-30"),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\naccept_legacy_until = 2035-01-01T00:00:00Z", (4, 23), "this is a time, and a day alone is meant", "2027-06-30"),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmac = \"optional\"\nmembers = [\"/a\"]", (4, 1), "`mac` vouches for whole bodies", "remove one of them"),
    error("encryption", "[encryption.body]\nprofile = \"cryptojs\"\nmaster_key = \"env:C\"\nmembers = [\"/a\", \"/a\"]", (4, 18), "", ""),
];

macro_rules! route {
    ($rest:literal) => {
        concat!("[[routes]]\nname = \"all\"\npath = \"/**\"\nupstream = \"app\"\n", $rest)
    };
}

macro_rules! guarded {
    ($guard:literal) => {
        concat!("[[routes]]\nname = \"all\"\npath = \"/u/{user_id}\"\nupstream = \"app\"\nauth = [\"jwt.users\"]\nguard =  \"", $guard, "\"")
    };
}

/// A key with these limits, and a rule with these settings.
macro_rules! limited {
    ($limits:literal, $rule:literal) => {
        concat!(
            "[api_keys.devs]\nscheme = \"ApiKey\"\nsalt = \"env:B\"\n[[api_keys.devs.keys]]\nid = \"ci\"\n\
             hash = \"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"\nuser_id = \"u\"\nlimits = ",
            $limits,
            "\n[rate_limits.api]\nlimit = 10\nwindow = \"1h\"\n",
            $rule
        )
    };
}

#[rustfmt::skip]
const KEY_LIMITS: &[Case] = &[
    error("api_keys", limited!("{ nobody = 5 }", "by = \"api_key\""), (8, 21), "there is no `[rate_limits.nobody]`", "there are `api` and `slow`"),
    error("api_keys", limited!("{ apis = 5 }", "by = \"api_key\""), (8, 19), "there is no `[rate_limits.apis]`", "did you mean \"api\"?"),
    error("api_keys", limited!("{ slow = 5 }", "by = \"api_key\""), (8, 12), "`slow` does not count by API key", "by = \"api_key\""),
    error("api_keys", limited!("{ api = 0 }", "by = \"api_key\""), (8, 18), "`api` is 0, which is out of range", "from 1 to 1000000000"),
    error("api_keys", limited!("{ api = \"many\" }", "by = \"api_key\""), (8, 18), "`api`", ""),
    error("api_keys", limited!("{ api = 5000 }", "by = \"api_key\"\nalgorithm = \"sliding_log\""), (8, 18), "takes 19 KiB for each key", "at most 4096"),
    error("api_keys", limited!("{ api = 3 }", "by = [\"route\", \"api_key\"]\ncost = 4"), (8, 18), "a request may cost 4 and would never pass", "lower the `cost`"),
];

#[rustfmt::skip]
const ROUTES: &[Case] = &[
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"apps\"", (4, 12), "there is no `[upstreams.apps]`", "did you mean \"app\"?"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"qwertz\"", (4, 12), "there is no `[upstreams.qwertz]`", "there is `app`"),
    error("routes", route!("auth = [\"jwt.user\"]"), (5, 9), "there is no `[jwt.user]`", "did you mean \"jwt.users\"?"),
    error("routes", route!("auth = [\"users\"]"), (5, 9), "`users` is not a way to authenticate", "did you mean \"jwt.users\"?"),
    error("routes", route!("auth = [\"api_key.devs\"]"), (5, 9), "`api_key.devs` is not a way", "did you mean \"api_keys.devs\"?"),
    error("routes", route!("auth = [\"jwt.users\", \"jwt.users\"]"), (5, 22), "stands in the list already", ""),
    error("routes", route!("rate_limits = [\"slo\"]"), (5, 16), "there is no `[rate_limits.slo]`", "did you mean \"slow\"?"),
    error("routes", route!("encryption = \"nobody\"\nauth = [\"jwt.users\"]"), (5, 14), "there is no `[encryption.nobody]`", "body"),
    error("routes", "[[routes]]\nname = \"a b\"\npath = \"/\"\nupstream = \"app\"", (2, 8), "\"a b\" cannot be a name", "1 to 64"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\n[[routes]]\nname = \"a\"\npath = \"/b\"\nupstream = \"app\"", (6, 8), "there is a route `a` already", ""),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\n[[routes]]\nname = \"b\"\npath = \"/\"\nmethods = [\"PUT\"]\nupstream = \"app\"", (7, 8), "PUT `/` goes to the route `a` already", "different `methods`"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nmethods = [\"HEAD\"]\nupstream = \"app\"\n[[routes]]\nname = \"b\"\npath = \"/\"\nmethods = [\"GET\"]\nupstream = \"app\"", (8, 8), "`/` goes to the route `a` already", ""),
    error("routes", route!("encryption = \"body\""), (5, 14), "envelopes are sealed under the caller's key, and this route is public", "add `auth"),
    error("routes", route!("permissions = [\"A\"]"), (5, 15), "permissions are the caller's", "add `auth"),
    error("routes", route!("roles = [\"A\"]"), (5, 9), "roles are the caller's", "add `auth"),
    error("routes", route!("auth = [\"jwt.users\"]\nroles = [\"A,B\"]"), (6, 10), "has a comma", "one entry for each"),
    error("routes", route!("auth = [\"jwt.users\"]\nroles = [\"A\", \"A\"]"), (6, 15), "stands in the list already", ""),
    error("routes", route!("allow = [\"10.0.0.0/8\", \"10.1.2.3/8\"]"), (5, 24), "stands in the list already", "remove one"),
    error("routes", route!("allow = [\"10.0.0.1\"]"), (5, 10), "`10.0.0.1` is not a network", "\"10.0.0.1/32\""),
    error("routes", route!("allow = []"), (5, 9), "this list is empty", ""),
    error("routes", route!("deny = [\"localhost\"]"), (5, 9), "`localhost` is not a network", "10.0.0.0/8"),
    warning("routes", route!("allow = [\"10.1.2.3/16\"]"), (5, 10), "`10.1.2.3/16` means all of `10.1.0.0/16`", "\"10.1.2.3/32\" for the one address"),
    warning("routes", route!("deny = [\"10.1.0.0/16\", \"2001:db8::1/32\"]"), (5, 24), "`2001:db8::1/32` means all of `2001:db8::/32`", "\"2001:db8::1/128\""),
    warning("routes", route!("allow = [\"10.1.0.0/16\"]\ndeny = [\"10.0.0.0/8\"]"), (5, 10), "`10.1.0.0/16` never passes: it is within `10.0.0.0/8` of `deny`", "deny less"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/u/{a}\"\nupstream = \"app\"\n[[routes]]\nname = \"b\"\npath = \"/u/*\"\nupstream = \"app\"", (7, 8), "`/u/*` goes to the route `a` already", "different"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/u/{}\"\nupstream = \"app\"", (3, 8), "`{}` has no name", "{user_id}"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/u/{a-b}\"\nupstream = \"app\"", (3, 8), "`{a-b}` has no name", "{user_id}"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/u/{a}x\"\nupstream = \"app\"", (3, 8), "`{a}x` mixes a name with other characters", "whole"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/u/x{a}\"\nupstream = \"app\"", (3, 8), "`{` never stands in a target", "%7B"),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/{a}/{a}\"\nupstream = \"app\"", (3, 8), "`{a}` occurs twice", "of its own"),
    error("routes", guarded!("path.b == claims.sub"), (6, 10), "`path.b` is no segment of `/u/{user_id}`", "name it in `path`"),
    error("routes", guarded!("path.userid == claims.sub"), (6, 10), "`path.userid` is no segment", "did you mean `path.user_id`?"),
    error("routes", guarded!(""), (6, 10), "this is empty", "path.user_id == claims.sub"),
    error("routes", guarded!("path.user_id = claims.sub"), (6, 24), "`=` means nothing here", "equality is `==`"),
    error("routes", guarded!("path.user_id == clams.sub"), (6, 27), "there is no value `clams`", "did you mean `claims`?"),
    error("routes", guarded!("path.user_id == claims"), (6, 27), "`claims` needs a name", "claims.NAME"),
    error("routes", guarded!("path.user_id == claims.a == claims.b"), (6, 36), "comparisons do not chain", "`&&`"),
    error("routes", guarded!("path.user_id"), (6, 11), "this is a value, not a condition", "compare it"),
    error("routes", guarded!("path.user_id == \\\"x"), (6, 10), "this text has no end (at character 17)", "close it"),
    error("routes", guarded!("path.user_id == claims.sub &&"), (6, 40), "the guard ends where a value should stand", "claims.NAME"),
    error("routes", guarded!("(path.user_id == claims.sub"), (6, 38), "a `)` is missing here", "close"),
    error("routes", guarded!("path.user_id == claims.sub)"), (6, 37), "was complete before this", "`&&` or `||`"),
    error("routes", guarded!("7 == 8"), (6, 11), "this is always the same", ""),
    error("routes", guarded!("path.user_id == 07"), (6, 27), "`07` is not a whole number of 64 bits", "leading zeros"),
    error("routes", guarded!("path.user_id == true"), (6, 27), "only a claim can be true or false", ""),
    error("routes", guarded!("method == 'get'"), (6, 21), "methods are written in upper case", "\"GET\""),
    error("routes", guarded!("client_ip == 'localhost'"), (6, 24), "this is no address and no network", "10.0.0.0/8"),
    error("routes", guarded!("client_ip == claims.ip"), (6, 24), "`client_ip` is compared with addresses that stand here", ""),
    error("routes", guarded!("user.id in 'a'"), (6, 22), "`in` asks a list", "user.roles"),
    error("routes", guarded!("user.roles == 'a'"), (6, 11), "`user.roles` is a list", "in user.roles"),
    error("routes", guarded!("'a' in [claims.b]"), (6, 19), "only texts and numbers stand in a list", ""),
    error("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nguard = \"claims.a\"", (5, 9), "the guard asks who calls, and this route is public", "add `auth"),
    warning("routes", "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nauth = [\"api_keys.devs\"]\nguard = \"claims.a\"", (6, 9), "no caller of this route has a token", "user.id"),
    error("routes", route!("queue = 5"), (5, 1), "`queue` says nothing without `max_in_flight`", "add `max_in_flight"),
    error("routes", route!("queue_timeout = \"1s\""), (5, 1), "`queue_timeout` says nothing without `max_in_flight`", "add `max_in_flight"),
    error("routes", route!("max_in_flight = 0"), (5, 17), "`max_in_flight` is 0, which is out of range", "from 1 to 1000000"),
    warning("routes", route!("priority = \"low\""), (5, 1), "`priority` says nothing without `limits.max_in_flight`", "add `max_in_flight"),
    warning("routes", concat!(route!("max_in_flight = 10"), "\n[limits]\nmax_in_flight = 10"), (5, 17), "never reached: with priority `normal` at most 9", "raise `limits"),
    error("routes", route!("priority = \"urgent\""), (5, 12), "`urgent`", "\"low\""),
    error("routes", route!("methods = [\"GET\", \"GET\"]"), (5, 19), "stands in the list already", ""),
    warning("routes", route!("rate_limits = [\"slow\"]"), (5, 16), "no caller of this route has a user: all of them share one count", "client_ip"),
    warning("routes", route!("methods = [\"GET\"]\nrate_limits = [\"w\"]\n[rate_limits.w]\nlimit = 1\nwindow = \"1s\"\nby = \"route\"\nmethods = [\"POST\", \"PUT\"]"), (6, 16), "`w` counts POST, PUT only, which this route does not take", "change the `methods`"),
    warning("routes", route!("rate_limits = [\"pair\"]\n[rate_limits.pair]\nlimit = 1\nwindow = \"1s\"\nby = [\"route\", \"user\"]"), (5, 16), "no caller of this route has a user: that part of the key is the same for all", "client_ip"),
];

#[test]
fn listeners() {
    // Routes and sections that a case does not need may be unused; warnings beside it are no matter.
    check_all(LISTENERS);
}

#[test]
fn lockout() {
    check_all(LOCKOUT);
}

#[test]
fn upstreams() {
    check_all(UPSTREAMS);
}

#[test]
fn callers() {
    check_all(CALLERS);
}

#[test]
fn traffic() {
    check_all(TRAFFIC);
}

#[test]
fn limits_of_keys() {
    check_all(KEY_LIMITS);
}

#[test]
fn routes() {
    check_all(ROUTES);
}

#[test]
fn no_routes_at_all() {
    let (source, faults) = faults("routes = []\n[server]\nhttps = [\"a:1\"]\n[tls]\nself_signed = true");
    assert_eq!(faults.len(), 1, "{}", source.render(&faults, false));
    assert!(faults[0].message.contains("there is no route"));
}

#[test]
fn no_two_ways_to_read_one_credential() {
    let two_tokens = |one: &str, other: &str| {
        let (text, _) = with(
            "jwt",
            &format!(
                "[jwt.users]\nalgorithms = [\"HS256\"]\nsecret = \"env:A\"\n{one}\n\
                      [jwt.staff]\nalgorithms = [\"HS256\"]\nsecret = \"env:B\"\n{other}"
            ),
        );
        let text = text.replace("\"jwt.users\", ", "\"jwt.users\", \"jwt.staff\", ");
        let (source, faults) = faults(&text);
        source.render(&faults, false)
    };
    let none = two_tokens("", "");
    assert!(none.contains("`jwt.users` and `jwt.staff` both have no issuer"), "{none}");
    let same = two_tokens("issuer = \"a\"", "issuer = \"a\"");
    assert!(same.contains("both have the issuer `a`"), "{same}");
    for report in [two_tokens("issuer = \"a\"", ""), two_tokens("issuer = \"a\"", "issuer = \"b\"")] {
        assert!(!report.contains("error"), "{report}");
    }

    let (text, _) = with(
        "api_keys",
        "[api_keys.devs]\nscheme = \"Key\"\nsalt = \"env:B\"\nkeys = []\n[api_keys.ops]\nscheme = \"key\"\nsalt = \"env:B\"\nkeys = []",
    );
    let (source, faults) = faults(&text.replace("\"api_keys.devs\"", "\"api_keys.devs\", \"api_keys.ops\""));
    let report = source.render(&faults, false);
    assert!(report.contains("`api_keys.devs` and `api_keys.ops` both read `Authorization`"), "{report}");
}

#[test]
fn an_api_key_is_one_callers() {
    let hash = "ab".repeat(32);
    let keys = format!(
        "[api_keys.devs]\nscheme = \"ApiKey\"\nsalt = \"env:B\"\nkeys = [\n\
         {{ id = \"ci\", hash = \"{hash}\", user_id = \"u\" }},\n\
         {{ id = \"ci\", hash = \"{hash}\", user_id = \"v\" }},\n]"
    );
    let (source, faults) = faults(&with("api_keys", &keys).0);
    let report = source.render(&faults, false);
    assert!(report.contains("there is a key with the id `ci` already"), "{report}");
    assert!(report.contains("another entry has this hash"), "{report}");
}

#[test]
fn one_slip_is_one_fault() {
    // The stand-ins that the shape check leaves behind must not be judged.
    let cases = [
        ("server", "[server]\nhtps = [\"a:1\"]"),
        ("server", "[server]\nhttps = [\"1\"]"),
        ("tls", "tls = true"),
        ("tls", "[tls]\nself_singed = true"),
        ("upstreams", "[upstream.app]\nservers = [\"a:1\"]"),
        ("upstreams", "[upstreams.app]\nserver = [\"a:1\"]"),
        ("jwt", "[jwt.users]\nalgorithms = [\"HS265\"]\npublic_key = \"file:/a\""),
        ("jwt", "[jwt.users]\nalgorithms = [\"RS256\"]\npublickey = \"file:/a\""),
        ("state", "[state]\nstore = \"redis\"\nredis = \"env:R\""),
        (
            "rate_limits",
            "[rate_limits.slow]\nlimit = 1\nwindow = \"1s\"\nby = \"user\"\nalgorithm = \"gcar\"\nburst = 5",
        ),
        ("encryption", "[encryption.body]\nprofile = \"crypto-js\"\nmaster_key = \"env:C\""),
        (
            "routes",
            "[[routes]]\nname = \"a\"\npath = \"/\"\nupstream = \"app\"\nauht = [\"jwt.users\"]\nencryption = \"body\"",
        ),
        (
            "routes",
            "[[routes]]\nname = 1\npath = \"/\"\nupstream = \"app\"\n[[routes]]\nname = 2\npath = \"/b\"\nupstream = \"app\"",
        ),
        (
            "routes",
            "[[routes]]\npath = \"/\"\nupstream = \"app\"\n[[routes]]\nname = \"a\"\npath = 5\nupstream = \"app\"",
        ),
    ];
    for (section, text) in cases {
        let (source, faults) = faults(&with(section, text).0);
        let errors = faults.iter().filter(|fault| fault.severity == gapura_config::fault::Severity::Error).count();
        let expected = if text.matches("[[routes]]").count() == 2 { 2 } else { 1 };
        assert_eq!(errors, expected, "{text}\n{}", source.render(&faults, false));
    }
}
