//! A page of `docs/targets`, as a person copies from it: the objects, the policy, and the ClusterRole that it names. Tests
//! take them from there, so that what is documented is what is tested.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What a page says.
#[derive(Debug)]
pub struct Page {
    /// The first YAML block, to be applied.
    pub objects: String,
    /// The block with a RolloutPolicy.
    pub policy: String,
    /// `sluice-httproute`
    pub role: String,
}

/// Where the pages are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/targets")
}

impl Page {
    /// By its file's name without `.md`.
    pub fn read(name: &str) -> Result<Page> {
        let path = folder().join(format!("{name}.md"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let blocks: Vec<&str> =
            text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let (policies, objects): (Vec<&str>, Vec<&str>) =
            blocks.into_iter().partition(|block| block.contains("kind: RolloutPolicy"));
        ensure!(
            policies.len() == 1 && objects.len() == 1,
            "{name}: one object block and one policy are needed"
        );
        let role = text.split("ClusterRole `").nth(1).and_then(|rest| rest.split('`').next());
        let role = role.with_context(|| format!("{name} names no ClusterRole"))?;
        Ok(Page { objects: objects.concat(), policy: policies.concat(), role: role.to_owned() })
    }

    /// All names that [`Page::read`] takes.
    pub fn names() -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder()).context("docs/targets")? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".md").filter(|name| *name != "README").map(str::to_owned));
        }
        names.sort();
        Ok(names)
    }
}
