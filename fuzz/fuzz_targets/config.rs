//! A configuration file: loaded, or every fault of it shown at a place that exists.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match gapura_config::parse("gapura.toml", text) {
        Ok(loaded) => drop(loaded.source.render(&loaded.warnings, true)),
        Err(wrong) => {
            assert!(!wrong.faults.is_empty());
            let lines = text.matches('\n').count() + 1;
            for (line, column) in wrong.faults.iter().filter_map(|fault| wrong.source.locate_fault(fault)) {
                assert!((1..=lines).contains(&line) && column >= 1);
            }
            assert!(!wrong.source.render(&wrong.faults, true).is_empty());
        }
    }
});
