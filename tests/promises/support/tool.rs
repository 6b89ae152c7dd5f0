//! Programs from outside. A missing one fails its test and says what installs it.

use std::{
    io::Write,
    path::PathBuf,
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
