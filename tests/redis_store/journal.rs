//! What was logged, by the port of the Redis it speaks of: tests run side by side.

use std::sync::Mutex;

use log::{Level, LevelFilter, Log, Metadata, Record};

pub(crate) struct Journal(Mutex<Vec<(Level, String)>>);

static JOURNAL: Journal = Journal(Mutex::new(Vec::new()));

impl Journal {
    pub(crate) fn begin() {
        // Of the first test.
        if log::set_logger(&JOURNAL).is_ok() {
            log::set_max_level(LevelFilter::Trace);
        }
    }

    /// Each with its level, in order.
    pub(crate) fn of(port: u16) -> Vec<(Level, String)> {
        let lines = JOURNAL.0.lock().unwrap();
        lines.iter().filter(|(_, line)| line.contains(&format!(":{port}"))).cloned().collect()
    }

    /// What an operator sees who left the level as it is.
    pub(crate) fn count(port: u16, words: &str) -> usize {
        Self::of(port).iter().filter(|(level, line)| *level <= Level::Info && line.contains(words)).count()
    }

    /// Anything logged by anyone.
    pub(crate) fn holds(words: &str) -> bool {
        JOURNAL.0.lock().unwrap().iter().any(|(_, line)| line.contains(words))
    }
}

impl Log for Journal {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        self.0.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}
