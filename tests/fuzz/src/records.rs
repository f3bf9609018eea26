//! Decision records, as `sluice replay` is given them. The first byte says what the rest is:
//!
//! - `{`: an export, as it is.
//! - `~`: places in a genuine record, and what is put there instead: it is never agreed to, unless it says the same.
//! - `+`: entries, one a line, that are given right sums and a right head: whoever writes a record can do that.

use std::sync::OnceLock;

use sluice::{
    judging::judge,
    replay::{Replay, ReplayReport, Stop},
};
use sluice_wire::decisions::{self, Entry, Head, Line, Part, RecordReader, Sum};

pub mod scribe;

use scribe::Scribe;

/// A small genuine record: a canary that goes bad at its first step.
const POLICY: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {webhook: {url: "http://127.0.0.1:1/"}}
  metrics: {scrape: {stable: ["http://127.0.0.1:1/metrics"], canary: ["http://127.0.0.1:1/metrics"]}}
  analysis: {warmup: 0s}
  steps: [{weight: 5}]
  limits: {step: {min: 10s, max: 45m}}
  bake: {for: 0s}
"#;

/// The whole export.
pub fn genuine() -> String {
    let mut scribe =
        Scribe::new(POLICY, |plan, evidence, step, window| judge(plan, evidence, step, window).event);
    scribe.begin();
    for _ in 0..20 {
        scribe.window(400, 10);
    }
    scribe.read_back();
    scribe.text()
}

pub fn check(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind {
        b'~' => changed(rest),
        b'+' => forged(rest),
        _ => any(input),
    }
}

fn any(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    said(replayed(text));
    // As the store has it.
    if let Ok(batch) = decisions::batch(text) {
        assert!(batch.version <= decisions::VERSION);
    }
}

fn said(came: Result<ReplayReport, Stop>) {
    match came {
        Ok(report) => assert!(report.gaps.len() <= 20 && report.notes.len() <= 20),
        Err(stop) => assert!(!stop.to_string().is_empty() && stop.to_string().len() < 8_000, "{stop}"),
    }
}

/// Reads a whole export, as the command does.
fn replayed(text: &str) -> Result<ReplayReport, Stop> {
    let mut reader = RecordReader::default();
    let mut replay: Option<Replay> = None;
    for line in text.lines() {
        match (reader.read(line)?, &mut replay) {
            (None, _) | (Some(Part::Line(_)), None) => {}
            (Some(Part::Head(head)), _) => replay = Some(Replay::of(&head)?),
            (Some(Part::Line(line)), Some(replay)) => replay.line(&line)?,
        }
    }
    reader.finish()?;
    let empty = || Stop::Unreadable(decisions::RecordError::Empty);
    replay.map(Replay::finish).ok_or_else(empty)
}

fn changed(edits: &[u8]) {
    let mut bytes = original().as_bytes().to_vec();
    let mut rest = edits;
    while let [low, high, gone, count, more @ ..] = rest {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
        let until = (at + usize::from(*gone)).min(bytes.len());
        let (new, left) = more.split_at(usize::from(*count).min(more.len()));
        bytes.splice(at..until, new.iter().copied());
        rest = left;
        if bytes.is_empty() {
            return;
        }
    }
    let Ok(text) = String::from_utf8(bytes) else { return };
    let came = replayed(&text);
    let agrees = came.as_ref().is_ok_and(ReplayReport::is_complete);
    assert!(!agrees || says_the_same(&text), "agreed to: {text}");
    said(came);
}

/// What is left of it stands in the original, in this order from its first line on; a line may come twice in a row.
fn says_the_same(text: &str) -> bool {
    let (found, wanted) = (lines(text), lines(original()));
    let mut place = 0;
    for line in &found {
        if wanted.get(place) == Some(line) {
            place += 1;
        } else if !wanted[..place].contains(line) {
            return false;
        }
    }
    place > 0
}

/// Number, sum and entry of each line, and the head's charter.
fn lines(text: &str) -> Vec<(u64, Sum, String)> {
    let mut reader = RecordReader::default();
    let parts = text.lines().filter_map(|line| reader.read(line).ok().flatten());
    let words = |part| match part {
        Part::Head(head) => {
            let charter = head.charter().map(|charter| format!("{charter:?}"));
            (0, Sum::new(), charter.unwrap_or_default())
        }
        Part::Line(line) => {
            let entry = line.entry().map(|entry| format!("{entry:?}"));
            (line.n, line.sum.clone(), entry.unwrap_or_default())
        }
    };
    parts.map(words).collect()
}

fn forged(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let head: Head = serde_json::from_str(original().lines().next().unwrap_or_default()).expect("a head");
    let Ok(mut replay) = Replay::of(&head) else { unreachable!("the genuine head is taken") };
    let (mut n, mut before) = (0, Sum::new());
    for entry in text.lines().filter_map(|line| serde_json::from_str::<Entry>(line).ok()) {
        if matches!(entry, Entry::Taken(_)) {
            (n, before) = (0, Sum::new());
        }
        let line = Line::after(&before, n, &entry).expect("an entry is JSON");
        (n, before) = (n + 1, line.sum.clone());
        if let Err(stop) = replay.line(&line) {
            return said(Err(stop));
        }
    }
    said(Ok(replay.finish()));
}

fn original() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(genuine)
}

/// The entries of the genuine record, as an input that is given its sums again.
pub fn entries() -> String {
    let mut text = "+".to_owned();
    for line in original().lines().skip(1) {
        let line: serde_json::Value = serde_json::from_str(line).expect("a line");
        text += &format!("{}\n", line["entry"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_genuine_record_is_agreed_to_whole_and_with_its_sums_made_anew() {
        let report = replayed(original()).unwrap();
        assert!(report.is_complete() && report.decisions > 5 && report.windows > 1, "{report:#?}");
        check(b"~");
        check(entries().as_bytes());
    }

    #[test]
    fn a_change_that_says_something_else_is_seen_as_one() {
        assert!(says_the_same(original()));
        assert!(!says_the_same(&original().replacen("\"pod\":\"c\"", "\"pod\":\"x\"", 1)));
        let shuffled: Vec<&str> = original().lines().take(1).chain(original().lines().skip(2)).collect();
        assert!(!says_the_same(&shuffled.join("\n")));
    }
}
