//! A rollout's words in its policy's status and events. Pure.

use serde_json::json;
use sluice_traffic::cluster::Note;
use sluice_wire::{policy::RolloutStatus, view::RolloutView};

pub fn status(view: &RolloutView) -> RolloutStatus {
    let steps = view.steps.len();
    RolloutStatus {
        attempt: view.rollout.attempt().to_owned(),
        release: view.release.clone(),
        phase: view.phase.clone(),
        step: view.step.map(|step| if step > steps { "bake".to_owned() } else { format!("{step}/{steps}") }),
        weight: view.weight.to_string(),
        verdict: view.verdict.and_then(|verdict| json!(verdict).as_str().map(str::to_owned)),
        reason: view.reason.clone(),
        daemon: view.owner.clone(),
        cluster: view.cluster.clone(),
    }
}

/// What is told of a phase when it begins; watching a step is no news after the step's weight.
pub fn note(view: &RolloutView) -> Option<Note> {
    if view.phase == "observing" {
        return None;
    }
    let release = view.release.as_deref().unwrap_or(view.rollout.attempt());
    Some(Note {
        key: format!("{} {}", view.rollout.attempt(), view.revision),
        warning: matches!(view.phase.as_str(), "reverting" | "reverted" | "failed"),
        reason: in_pascal_case(&view.phase),
        text: format!("{release} at {}: {}", view.weight, view.reason),
    })
}

fn in_pascal_case(word: &str) -> String {
    word.split('-')
        .flat_map(|part| {
            let mut letters = part.chars();
            letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<Vec<char>>()
        })
        .collect()
}
