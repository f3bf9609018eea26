//! Manifests and rules, as the real programs read them.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sluice_rig::{Kube, binaries};
use sluice_tests::{LIMIT, story};

use crate::rights::cluster_roles;
use crate::{SHOP, deploy, text};

async fn promtool(args: &[&str]) -> Result<()> {
    let mut command = tokio::process::Command::new(binaries::packaged("promtool")?);
    command.args(args).current_dir(deploy("prometheus")).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await.context("promtool did not end")??;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "promtool {args:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn prometheus_reads_the_alert_rules_and_they_fire_when_they_should() -> Result<()> {
    story(async {
        promtool(&["check", "config", "scrape.yaml"]).await?;
        promtool(&["test", "rules", "alerts.test.yaml"]).await
    })
}

/// The namespace enforces the `restricted` standard, so the pod comes only if it meets that.
#[test]
fn the_daemons_pod_is_admitted_under_the_restricted_standard() -> Result<()> {
    story(async {
        let kube = Kube::shared().await?;
        cluster_roles(kube).await?;
        let daemon = text("kubernetes/sluice.yaml")?;
        kube.kubectl_as(Kube::ADMIN, &["apply", "--validate=strict", "--filename=-"], Some(&daemon)).await?;
        for pod in ["pod/sluice-0", "pod/sluice-1"] {
            kube.wait("sluice", pod, "condition=Ready", LIMIT).await?;
        }
        Ok(())
    })
}

/// systemd's own judgement of the unit, without starting it: 0 is nothing exposed, 10 everything. It stands at 1.5; what
/// is left are the network and the group of HAProxy's socket.
#[test]
fn systemd_finds_little_exposed_by_the_unit() -> Result<()> {
    story(async {
        let unit = deploy("systemd/sluice.service").display().to_string();
        let mut command = tokio::process::Command::new(binaries::packaged("systemd-analyze")?);
        command.args(["security", "--offline=true", "--threshold=20", "--no-pager", &unit]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output()).await.context("it did not end")??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(said.contains("Overall exposure level for sluice.service"), "{said}");
        Ok(())
    })
}

#[test]
fn the_walk_throughs_shop_comes_up() -> Result<()> {
    story(async {
        let kube = Kube::shared().await?;
        let _alone = SHOP.lock().await;
        let shop = text("examples/walkthrough/shop.yaml")?;
        kube.kubectl_as(Kube::ADMIN, &["apply", "--validate=strict", "--filename=-"], Some(&shop)).await?;
        kube.wait("shop", "deployment/checkout", "condition=Available", LIMIT).await
    })
}
