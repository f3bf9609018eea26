//! libFuzzer's program: it tries one target, named in `SLUICE_FUZZ_TARGET`. `tests/fuzz/run` builds it with coverage, and
//! starts it.

#![no_main]

use std::sync::OnceLock;

use sluice_fuzz::{TARGETS, Target};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    (TARGET.get_or_init(target).check)(input);
});

fn target() -> Target {
    let name = std::env::var("SLUICE_FUZZ_TARGET").unwrap_or_default();
    let names = TARGETS.map(|target| target.name).join(", ");
    let found = TARGETS.into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        eprintln!(
            "SLUICE_FUZZ_TARGET is {name:?}; it has to be one of {names}: start this by tests/fuzz/run"
        );
        std::process::exit(2)
    })
}
