//! A fault: what is wrong with a configuration, where, and what to write instead.

use std::fmt;

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

/// One thing that is wrong. `message` says what, `help` what to write instead. Neither ever holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// Points at the key rather than at its value (an unknown key, say).
    pub at_key: bool,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        Self { place, at_key: false, message: message.into(), help: None }
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
}
