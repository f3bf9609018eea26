//! Policies that people copy.

use anyhow::{Result, ensure};
use sluice_rig::folder::Folder;
use sluice_rig::page::Page;
use sluice_tests::{cli, story};

use crate::deploy;

#[test]
fn every_example_policy_is_sound_and_none_is_doubtful() -> Result<()> {
    story(async {
        for folder in
            ["", "walkthrough/", "two-services/", "argo-rollouts/", "pipeline/", "openshift/", "avi/"]
        {
            let folder = deploy(&format!("examples/{folder}policies")).display().to_string();
            let validated = cli::sluice(&["validate", "--strict", &folder, "-o", "json"], &[]).await?;
            ensure!(validated.code == 0, "{}", validated.text());
            ensure!(validated.json()?["policies"].as_u64() > Some(0), "{}", validated.text());
        }
        Ok(())
    })
}

#[test]
fn every_page_of_a_target_has_a_sound_policy_and_a_role_that_exists() -> Result<()> {
    story(async {
        let folder = Folder::new("pages")?;
        let roles = crate::text("kubernetes/rbac.yaml")?;
        for name in Page::names()? {
            let page = Page::read(&name)?;
            // One namespace and name each, as a folder of policies needs.
            folder.write(
                &format!("{name}.yaml"),
                page.policy.replace("{name: checkout,", &format!("{{name: {name},")),
            )?;
            ensure!(
                roles.contains(&format!("{{name: {}, labels", page.role)),
                "{name}: no role {}",
                page.role
            );
        }
        let path = folder.path().display().to_string();
        let validated = cli::sluice(&["validate", "--strict", &path, "-o", "json"], &[]).await?;
        ensure!(validated.code == 0, "{}", validated.text());
        ensure!(
            validated.json()?["policies"].as_u64() == Some(Page::names()?.len() as u64),
            "{}",
            validated.text()
        );
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
        for name in Page::names()? {
            texts += &Page::read(&name)?.policy;
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
