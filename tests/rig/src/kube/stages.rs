//! How the fake kubelet's pods behave. A label on the pod (so: on the Deployment's pod template) chooses:
//!
//! | label `sluice.test/ready` | the pod |
//! | --- | --- |
//! | none | is ready at once |
//! | `never` | runs, and is never ready; put on a ready pod it makes it unready, taken away it becomes ready |
//! | `slow` | is ready after the duration in annotation `sluice.test/ready-after` (such as `1500ms`), 2 s without one |
//!
//! Nodes, Jobs' pods and deletion behave as kwok's own stages say; a Job's pod of the image [`FAILS`] fails,
//! and one of the image [`RUNS_ON`] runs for an hour.

use anyhow::{Context, Result};

use crate::binaries;

/// The label that chooses.
pub const LABEL: &str = "sluice.test/ready";
/// The annotation with the delay of a slow pod.
pub const AFTER: &str = "sluice.test/ready-after";

/// The image whose Jobs fail; all others succeed.
pub const FAILS: &str = "registry.example/fails:1";
/// The image whose Jobs run until somebody ends them.
pub const RUNS_ON: &str = "registry.example/runs-on:1";

const KWOKS_OWN: [&str; 4] = ["node-initialize", "node-heartbeat", "pod-complete", "pod-delete"];
const OURS: &str = include_str!("stages.yaml");

/// The stages that kwok is given.
pub fn all() -> Result<String> {
    let mut documents = vec![OURS.to_owned()];
    for name in KWOKS_OWN {
        let file = binaries::manifest(&format!("stages/{name}.yaml"))?;
        documents
            .push(std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(documents.join("\n---\n"))
}
