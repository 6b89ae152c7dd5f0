//! joserfc, pyhpke and http_ece in a Python process that all tests share: `tests/python/client.py`.

use std::process::Command;

use serde_json::Value;

use super::{
    lines::Lines,
    tool::{installed, repository},
};

fn command() -> Command {
    let mut command = Command::new(installed(".venv/bin/python"));
    command.arg(repository("tests/python/client.py"));
    command
}

/// One operation of `tests/python/client.py`; the text says why it failed.
#[track_caller]
pub fn try_call(operation: &str, given: Value) -> Result<String, String> {
    static PYTHON: Lines = Lines::new();
    PYTHON.call(command, operation, given)
}

#[track_caller]
pub fn call(operation: &str, given: Value) -> String {
    try_call(operation, given).unwrap_or_else(|error| panic!("python: {operation}: {error}"))
}

/// Of an operation whose value is an object.
#[track_caller]
pub fn object(operation: &str, given: Value) -> Value {
    serde_json::from_str(&call(operation, given)).expect("an object")
}
