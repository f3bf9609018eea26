//! Policies that people copy.

use anyhow::{Result, ensure};
use sluice_tests::{cli, story};

use crate::deploy;

#[test]
fn every_example_policy_is_sound_and_none_is_doubtful() -> Result<()> {
    story(async {
        for folder in ["examples/policies", "examples/walkthrough/policies", "examples/two-services/policies"]
        {
            let folder = deploy(folder).display().to_string();
            let validated = cli::sluice(&["validate", "--strict", &folder, "-o", "json"], &[]).await?;
            ensure!(validated.code == 0, "{}", validated.text());
            ensure!(validated.json()?["policies"].as_u64() > Some(0), "{}", validated.text());
        }
        Ok(())
    })
}

#[test]
fn there_is_an_example_for_every_target() -> Result<()> {
    story(async {
        let mut texts = String::new();
        for entry in std::fs::read_dir(deploy("examples/policies"))? {
            texts += &std::fs::read_to_string(entry?.path())?;
        }
        let schema = cli::sluice(&["schema"], &[]).await?.json()?;
        let targets = schema["$defs"]["Target"]["oneOf"].as_array().cloned().unwrap_or_default();
        ensure!(!targets.is_empty(), "no targets in the schema: {schema:#}");
        for target in targets {
            let name = target["required"][0].as_str().unwrap_or_default();
            ensure!(texts.contains(&format!("    {name}: {{")), "no example has target.{name}");
        }
        Ok(())
    })
}
