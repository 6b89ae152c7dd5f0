//! Test vectors that nobody here wrote, against the code as the gateway calls it: `make test-vectors`.
//!
//! The suites are no part of this repository; `GAPURA_VECTORS` names their folder. Without them every test here fails, which
//! is why each is ignored elsewhere. Where code and suite differ, a table beside the test says why; a row that no longer
//! differs fails as well.

mod ciphers;
mod gateway;
mod jose;
mod json;
mod jwe;
mod primitives;
mod requests;
mod responses;
mod url;

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

/// One suite. Its absence is a failure, never a test that passes without having looked.
fn suite(name: &str) -> Value {
    let Some(folder) = std::env::var_os("GAPURA_VECTORS") else {
        panic!("GAPURA_VECTORS is not set: it must name the folder of the published vectors (`make test-vectors`)");
    };
    let path = PathBuf::from(folder).join(name);
    let text = std::fs::read(&path).unwrap_or_else(|why| panic!("the suite {} cannot be read: {why}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|why| panic!("the suite {} is not JSON: {why}", path.display()))
}

/// The list under `name`, which must not be empty: an emptied suite is a missing one.
fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    let list = value[name].as_array().unwrap_or_else(|| panic!("the suite has no list `{name}`"));
    assert!(!list.is_empty(), "the list `{name}` of the suite is empty");
    list
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("a case of the suite has no text `{name}`"))
}

fn base64(text: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).expect("a suite's bytes are base64")
}

/// Of how many cases came what, and which of them came out otherwise than the suite has it.
#[derive(Default)]
struct Outcomes {
    counts: BTreeMap<&'static str, usize>,
    /// Id of the case, and what happened.
    differing: BTreeMap<String, String>,
}

impl Outcomes {
    fn count(&mut self, outcome: &'static str) {
        *self.counts.entry(outcome).or_default() += 1;
    }

    fn differs(&mut self, id: impl ToString, what: impl Into<String>) {
        self.differing.insert(id.to_string(), what.into());
    }

    /// Prints the counts and every explained difference; fails on one without explanation, and on an explanation without one.
    fn judge(mut self, suite: &str, explained: &[(&str, &str)]) {
        let counts: Vec<String> = self.counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        println!("{suite}: {}", counts.join(", "));
        let mut wrong = Vec::new();
        for (id, why) in explained {
            match self.differing.remove(*id) {
                Some(what) => println!("  {id}: {what}. {why}"),
                None => wrong.push(format!("{id} is explained and does not differ")),
            }
        }
        wrong.extend(self.differing.into_iter().map(|(id, what)| format!("{id}: {what}")));
        assert!(wrong.is_empty(), "{suite}:\n  {}", wrong.join("\n  "));
    }
}
