//! Programs from outside. A missing one fails its test and says what installs it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

/// A place in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Fails unless it is there.
#[track_caller]
pub fn installed(path: &str) -> PathBuf {
    let full = repository(path);
    assert!(full.exists(), "{path} is missing: run `scripts/install.sh test` once");
    full
}

/// Runs a command to its end with this standard input.
#[track_caller]
pub fn output(mut command: Command, input: &[u8]) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; run `scripts/install.sh test` once"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // Beside the reading: a program that answers before it has read everything must not block on its own output.
    let writer = thread::spawn(move || {
        // A program that does not read its input closes it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Statements on a SQLite file, by Python's own library, as an application would.
#[track_caller]
pub fn sqlite_file(file: &Path, statements: &str) {
    let mut command = Command::new("python3");
    let script = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.stdin.read())";
    command.args(["-c", script]).arg(file);
    let output = output(command, statements.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
