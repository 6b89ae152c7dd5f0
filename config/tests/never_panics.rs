//! Whatever a file holds, it is loaded or reported.

use gapura_config::parse;
use proptest::prelude::*;

const REFERENCE: &str = include_str!("../gapura.toml");

fn survives(text: &str) {
    match parse("gapura.toml", text) {
        Ok(loaded) => drop(loaded.source.render(&loaded.warnings, true)),
        Err(faults) => {
            assert!(!faults.faults.is_empty());
            for fault in &faults.faults {
                if let Some((line, column)) = faults.source.locate_fault(fault) {
                    assert!(line >= 1 && column >= 1 && line <= text.matches('\n').count() + 1);
                }
            }
            assert!(!faults.source.render(&faults.faults, true).is_empty());
        }
    }
}

/// Lines as they could stand in a file, in any order.
fn lines() -> impl Strategy<Value = String> {
    let words = "[a-z_.]{1,12}|server|tls|routes|upstreams\\.a|jwt\\.a|state|limits|name|path|secret|https|auth|fields";
    let value = prop_oneof![
        "\"[^\"\\\\\n]{0,12}\"",
        "[0-9._+-]{1,8}",
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("2027-01-01".to_owned()),
        "\\[\"[a-z.]{0,6}\", [0-9]\\]",
        "\\{ [a-z_]{1,8} = \"[a-z]{0,4}\" \\}",
    ];
    let line = prop_oneof![
        words.prop_map(|name| format!("[{name}]")),
        words.prop_map(|name| format!("[[{name}]]")),
        (words, value).prop_map(|(key, value)| format!("{key} = {value}")),
    ];
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_any_text(text in "\\PC{0,200}|(?s:.{0,100})") {
        survives(&text);
    }

    #[test]
    fn on_any_lines(text in lines()) {
        survives(&text);
    }

    #[test]
    fn on_a_mutated_reference(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40usize, "[\\[\\]{}\"'=.#\n\\\\a0é…\u{0}-]{0,3}"), 1..6)
    ) {
        let mut text: Vec<char> = REFERENCE.chars().collect();
        for (index, removed, inserted) in cuts {
            let at = index.index(text.len());
            text.splice(at..(at + removed).min(text.len()), inserted.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }
}
