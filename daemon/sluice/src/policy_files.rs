//! Policy files: where they are, what they say, and all that is wrong with them. The daemon and `sluice validate` read them
//! alike: what one takes, the other takes.

use std::io;
use std::path::{Path, PathBuf};

use sluice_metrics_adapters::{Ask, Http, SourceError};
use sluice_rollout::RolloutId;
use sluice_wire::policy::{Policy, PolicyFault, PolicyFaults};

/// Files beyond this many are not read.
pub const MOST_FILES: usize = 10_000;
/// Folders in folders.
const MOST_DEPTH: usize = 16;

/// A field and what is wrong with it.
pub type Wrong = (String, String);

/// The file itself, or the .yaml, .yml and .json files of a folder and the folders in it, sorted. What begins with a dot is
/// left out: a mounted ConfigMap keeps its older versions there.
pub fn list(place: &Path) -> io::Result<Vec<PathBuf>> {
    if !place.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut files = Vec::new();
    descend(place, MOST_DEPTH, &mut files)?;
    files.sort();
    files.truncate(MOST_FILES);
    Ok(files)
}

fn descend(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // Not through links: they may lead back up.
        if entry.file_type()?.is_dir() {
            if depth > 0 && files.len() < MOST_FILES {
                descend(&path, depth - 1, files)?;
            }
        } else if is_policy(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_policy(path: &Path) -> bool {
    path.extension().is_some_and(|kind| ["yaml", "yml", "json"].iter().any(|known| kind == *known))
}

/// Reads one file.
pub fn read(path: &Path) -> Result<Policy, PolicyFaults> {
    let file = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => parse(&file, &bytes),
        Err(error) => Err(PolicyFault { file, place: None, field: None, why: error.to_string() }.into()),
    }
}

/// A policy that nothing is wrong with, as far as that can be said without asking a server.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Policy, PolicyFaults> {
    let policy = Policy::parse(file, bytes)?;
    PolicyFaults::located(file, wrong(&policy), bytes).map_or(Ok(policy), Err)
}

/// What target, metrics and gates would refuse when they are connected.
pub fn wrong(policy: &Policy) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> =
        sluice_traffic::check(policy).into_iter().map(|unfit| (unfit.field, unfit.why)).collect();
    wrong.extend(wrong_metrics(policy));
    wrong.extend(policy.wrong_calendars());
    wrong
}

fn wrong_metrics(policy: &Policy) -> Option<Wrong> {
    let id = RolloutId::new(&policy.metadata.namespace, &policy.metadata.name, "check").ok()?;
    if let Err(error) = Ask::of(policy, id) {
        return Some((error.field, error.why));
    }
    match sluice_metrics_adapters::check(&policy.spec.metrics, &Http::default()) {
        Ok(()) => None,
        Err(SourceError::Config { what, why, .. }) => Some((what, why)),
        Err(error) => Some(("spec.metrics".to_owned(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: shop}
spec:
  target: {haproxy: {socket: 10.0.0.1:9999, backend: shop, stable: [v1], canary: [v2]}}
  metrics: {scrape: {stable: ['127.0.0.1:1/metrics'], canary: ['http://127.0.0.1:2/metrics']}}
  gates: [{name: night, freeze: {zone: Mars/Olympus}}]
  steps: [{weight: 1}, {weight: 5}]
";

    fn told(text: &str) -> Vec<String> {
        let faults = parse("shop.yaml", text.as_bytes()).map(drop).map_err(|faults| faults.to_string());
        faults.err().unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_could_never_be_connected_is_refused_with_place_and_remedy() {
        let told = told(POLICY);
        for (line, begin, words) in [
            (0, "shop.yaml:5:22: spec.target.haproxy.socket: ", "not on loopback"),
            (1, "shop.yaml:6:31: spec.metrics.scrape.stable[0]: ", "http://"),
            (2, "shop.yaml:7:34: spec.gates[0].freeze.zone: ", "Europe/Berlin"),
        ] {
            assert!(told[line].starts_with(begin) && told[line].contains(words), "{told:#?}");
        }
        assert_eq!(told.len(), 3);
    }

    #[test]
    fn testers_whom_the_target_cannot_tell_are_refused() {
        let fine = POLICY
            .replace("10.0.0.1", "127.0.0.1")
            .replace("'127", "'http://127")
            .replace("Mars/Olympus", "UTC");
        let testers = "  testers: {header: {name: x-canary, value: always}}\n";
        let told = told(&format!("{fine}{testers}"));
        assert!(
            told.len() == 1 && told[0].starts_with("shop.yaml:9:3: spec.testers: this target cannot tell"),
            "{told:#?}"
        );
    }

    #[test]
    fn a_weight_that_the_target_can_never_express_is_refused_with_the_finest() {
        let fine = POLICY
            .replace("10.0.0.1", "127.0.0.1")
            .replace("'127", "'http://127")
            .replace("Mars/Olympus", "UTC");
        assert_eq!(told(&fine), Vec::<String>::new());
        let finer = told(&fine.replace("{weight: 1}", "{weight: 0.1}"));
        assert!(finer.len() == 1 && finer[0].contains("the finest is 0.39 %"), "{finer:#?}");
    }

    #[test]
    fn folders_are_descended_into_and_hidden_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, POLICY).unwrap();
        };
        for name in ["b/c/two.yml", "a.yaml", "..data/a.yaml", "notes.txt", "b/one.json"] {
            put(name);
        }
        let found: Vec<_> = list(root.path())
            .unwrap()
            .into_iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(found, ["a.yaml", "b/c/two.yml", "b/one.json"]);
    }
}
