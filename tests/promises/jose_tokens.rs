//! Tokens by `jose`, a library that shares no code with the gateway's: every algorithm, each with a key of its own.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::{Setup, Upstream, credential::now_ms, expect_problem, node};

const ALGORITHMS: [&str; 12] =
    ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

#[test]
fn tokens_of_every_algorithm_are_taken_by_their_own_table_alone() {
    let upstream = Upstream::ok();
    let (mut tables, mut tokens, mut files) = (String::new(), Vec::new(), Vec::new());
    for algorithm in ALGORITHMS {
        let claims = json!({"sub": algorithm, "exp": now_ms() / 1000 + 300});
        let made: Value =
            serde_json::from_str(&node::call("jose", json!({"alg": algorithm, "claims": claims}))).unwrap();
        let key = if algorithm.starts_with("HS") { "secret" } else { "public_key" };
        let _ = write!(
            tables,
            "[jwt.{algorithm}]\nalgorithms = [\"{algorithm}\"]\n{key} = \"file:@FOLDER@/{algorithm}\"\n\
             [[routes]]\nname = \"{algorithm}\"\npath = \"/{algorithm}\"\nupstream = \"backend\"\nauth = [\"jwt.{algorithm}\"]\n"
        );
        files.push((algorithm, made["verified"].as_str().unwrap().to_owned()));
        tokens.push((algorithm, format!("Bearer {}", made["token"].as_str().unwrap())));
    }
    let setup = Setup::plain(&format!("[upstreams.backend]\nservers = [\"{}\"]\n{tables}", upstream.address()));
    let folder = setup.directory().display().to_string();
    let setup = files.iter().fold(setup.put("FOLDER", folder), |setup, (name, key)| setup.file(name, key));
    let gateway = setup.start();
    for (algorithm, token) in &tokens {
        for route in ALGORITHMS {
            let answer = gateway.request("GET", &format!("/{route}"), &[("Authorization", token)], b"");
            if route == *algorithm {
                assert_eq!(answer.status, 200, "{algorithm}: {}", answer.text());
                assert_eq!(upstream.last().header("x-user-id"), Some(route));
            } else {
                expect_problem(&answer, 401, "CREDENTIALS_INVALID");
            }
        }
    }
    assert_eq!(upstream.requests().len(), ALGORITHMS.len(), "what was refused reached the upstream");
}
