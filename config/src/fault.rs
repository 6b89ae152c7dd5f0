//! A fault: what is wrong with a configuration, where, and what to write instead.

use std::{fmt, ops::Range};

/// The place of a value in the file: `routes[2].upstream`, `jwt.users.secret`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    Key(String),
    Index(usize),
}

impl Place {
    pub fn root() -> Self {
        Self::default()
    }
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
    /// The place that holds this one; the root holds itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }
    /// The last key or index.
    pub fn last(&self) -> Option<&Step> {
        self.0.last()
    }
    /// Whether `other` is this place or inside it.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Whether a fault stops the gateway from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Severity {
    #[default]
    Error,
    /// Legal, but seldom what is meant. `gapura check` prints it and still succeeds.
    Warning,
}

/// One thing that is wrong. `message` says what, `help` what to write instead. Neither ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub severity: Severity,
    /// Points at the key rather than at its value (an unknown key, say).
    pub at_key: bool,
    /// Bytes of the file, for a fault of syntax: what cannot be read has no place yet.
    pub span: Option<Range<usize>>,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { place, severity: Severity::Error, at_key: false, span: None, message, help: None }
    }
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::at(place, message) }
    }
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    #[must_use]
    pub fn on_key(mut self) -> Self {
        self.at_key = true;
        self
    }
    #[must_use]
    pub(crate) fn on_span(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }
}
