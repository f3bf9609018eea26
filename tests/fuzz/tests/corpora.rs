//! Every input that is kept, once: what has ever broken something does so no more.

#![expect(clippy::unwrap_used, reason = "a test may end where what it builds on fails")]

use std::path::Path;

use sluice_fuzz::{TARGETS, Target};

fn inputs(target: Target) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target.name);
    let files = std::fs::read_dir(&folder).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn whatever_is_kept_keeps_every_promise() {
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(inputs.len() >= 5, "{}: only {} inputs are kept", target.name, inputs.len());
        for (file, bytes) in &inputs {
            let held = std::panic::catch_unwind(|| (target.check)(bytes));
            assert!(held.is_ok(), "{file} breaks a promise of the target {}", target.name);
        }
    }
}
