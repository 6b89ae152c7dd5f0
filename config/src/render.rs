//! Draws faults under their lines, as rustc does.

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::{
    fault::{Fault, Severity},
    redact,
    source::Source,
};

/// Beyond this a report is no longer read; the closing line still counts them all.
const MAX_DRAWN: usize = 500;

impl Source {
    /// A report of every fault with its line, and a closing line with their number. Ends with a newline; empty without
    /// faults. Never shows a secret: see `redact`.
    pub fn render(&self, faults: &[Fault], color: bool) -> String {
        if faults.is_empty() {
            return String::new();
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut report = String::new();
        for fault in faults.iter().take(MAX_DRAWN) {
            report.push_str(&self.render_one(fault, &renderer));
            report.push_str("\n\n");
        }
        report.push_str(&closing(self.name(), faults));
        report.push('\n');
        report
    }

    fn render_one(&self, fault: &Fault, renderer: &Renderer) -> String {
        let level = match fault.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let help = fault.help.as_deref().map(|help| Level::HELP.message(printable(help)));
        let group = Group::with_title(level.primary_title(printable(&fault.message)));
        let name = printable(self.name());
        let Some(span) = self.span_of(fault) else {
            return renderer.render(&[group.element(Origin::path(name)).elements(help)]);
        };
        let (line, column) = self.position(span.start);
        let drawn = redact::draw(self, line, &span);
        let shown = drawn.text[..drawn.marked.start].chars().count() + 1;
        let mark = AnnotationKind::Primary.span(drawn.marked);
        let snippet = Snippet::source(drawn.text).line_start(line).path(name.clone()).annotation(mark);
        let report = renderer.render(&[group.element(snippet).elements(help)]);
        // The column is counted on the line as drawn, which is not the file's where something before it is hidden.
        report.replacen(&format!("{name}:{line}:{shown}"), &format!("{name}:{line}:{column}"), 1)
    }
}

fn closing(name: &str, faults: &[Fault]) -> String {
    let count = |severity| faults.iter().filter(|fault| fault.severity == severity).count();
    let counted = |count: usize, one: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {one}s")),
    };
    let counts = [counted(count(Severity::Error), "error"), counted(count(Severity::Warning), "warning")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let more = if faults.len() > MAX_DRAWN { format!("; the first {MAX_DRAWN} are shown") } else { String::new() };
    format!("{}: {}{more}", printable(name), counts.join(", "))
}

/// A string of the file may hold an escape sequence, and messages quote strings.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
