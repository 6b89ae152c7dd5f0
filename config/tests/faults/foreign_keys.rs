//! Keys that a backend issued.

use super::{Case, check_all, error, warning};

#[rustfmt::skip]
const FOREIGN: &[Case] = &[
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\nkeys = [{ id = \"a\", hash = \"0000000000000000000000000000000000000000000000000000000000000000\", user_id = \"u\" }]", (1, 11), "the keys of this table are hashed with a salt, and there is none", "salt = \"env:NAME\""),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\ndatabase = \"sqlite:a\"", (1, 11), "the keys of this table are hashed with a salt, and there is none", "salt = \"env:NAME\""),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nquery = \"DELETE FROM keys WHERE k = $1\"", (6, 9), "a key is looked up by a SELECT", "SELECT id, user_id"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nquery = \"SELECT 1 FROM keys WHERE k = $1; DROP TABLE keys\"", (6, 9), "a query is one statement, without `;`", "SELECT id, user_id"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nquery = \"SELECT 1 FROM keys\"", (6, 9), "`$1` is missing", "SELECT id, user_id"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nquery = \"\"\"SELECT $1\nsalt = \"env:S\"\n\"\"\"", (6, 9), "this query holds another key", "closing quotes"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"md5\"\nquery = \"SELECT $1\"", (5, 8), "`md5` is not a value of `hash`", "sha256"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256_salt_key\"\nquery = \"SELECT $1\"", (5, 8), "the row is not known yet", "find_by = \"prefix:8\""),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nsalt = \"env:S\"\nquery = \"SELECT $1\"", (6, 1), "`sha256` has no salt", "sha256_salt_key"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nhashed = \"rest\"\nquery = \"SELECT $1\"", (6, 10), "has no other part", "find_by"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nfind_by = \"prefix:2\"\nquery = \"SELECT $1\"", (6, 11), "too few or too many characters", "prefix:8"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nfind_by = \"suffix:8\"\nquery = \"SELECT $1\"", (6, 11), "`suffix:8` finds no key", "\"before:.\""),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nmax_concurrent = 0\nquery = \"SELECT $1\"", (6, 18), "out of range", "from 1 to 64"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\ntimeout = \"1h\"\nquery = \"SELECT $1\"", (6, 11), "`timeout` 1h is out of range", "\"30s\""),
    warning("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"plain\"\nquery = \"SELECT $1\"", (5, 8), "whoever reads its table can call", "sha256"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\ncache = { ttl = \"2h\" }\n[api_keys.devs.lookup]\ndatabase = \"env:D\"\nhash = \"sha256\"\nquery = \"SELECT $1\"", (3, 17), "2h is out of range", "\"1s\" to \"1h\""),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\nlookup = { database = \"env:D\", hash = \"sha256\", query = \"SELECT $1\" }\nintrospection = { url = \"https://a/b\" }", (4, 1), "both say whose a key is", "keep one"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"http://example.com/i\"", (4, 7), "a key would travel in the clear", "https://host/path"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"https://u:p@example.com/i\"", (4, 7), "no user and no password", "client_id"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"http://127.0.0.1:1/i\"\nca = \"a\"", (5, 1), "`ca` belongs to TLS", "https"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"https://a/i\"\nclient_id = \"g\"", (5, 1), "`client_id` is half a login", "client_secret"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"https://a/i\"\nclient_id = \"g\"\nclient_secret = \"env:S\"\nbearer = \"env:T\"", (7, 1), "are two logins", "keep one"),
    error("api_keys", "[api_keys.devs]\nscheme = \"ApiKey\"\n[api_keys.devs.introspection]\nurl = \"https://a/i\"\nclaims = { id = \"\" }", (5, 17), "this is empty", ""),
];

#[test]
fn foreign_keys() {
    check_all(FOREIGN);
}
