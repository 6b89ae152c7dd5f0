//! A program that all tests share: it reads one JSON request per line and writes one JSON answer per line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use serde_json::Value;

pub struct Lines(OnceLock<Mutex<Program>>);

struct Program {
    /// Ends with its standard input, and that with this process.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    #[track_caller]
    fn start(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; run `scripts/install.sh test` once"));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { _child: child, input, output }
    }
}

impl Lines {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// One operation; the text says why it failed.
    #[track_caller]
    pub fn call(&self, command: impl FnOnce() -> Command, operation: &str, mut given: Value) -> Result<String, String> {
        given["operation"] = operation.into();
        let mut line = String::new();
        {
            let mut program = self.program(command);
            writeln!(program.input, "{given}").expect("it reads");
            program.output.read_line(&mut line).expect("it answers");
        }
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("it said {line:?}: {error}"));
        match answer["value"].as_str() {
            Some(value) => Ok(value.to_owned()),
            None => Err(answer["error"].to_string()),
        }
    }

    /// A test that failed in here has not left half an answer behind: the next one may go on.
    fn program(&self, command: impl FnOnce() -> Command) -> MutexGuard<'_, Program> {
        let program = self.0.get_or_init(|| Mutex::new(Program::start(command())));
        program.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
