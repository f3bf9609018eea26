//! The README's walk-throughs, line by line: the blocks of one are joined and run as one script, with real servers behind
//! the addresses that it asks for.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sluice_rig::fleet::Place;
use sluice_rig::load::spread;
use sluice_rig::ports::Port;
use sluice_rig::{Fleet, Kube, Load, Nats, NatsOptions, binaries};
use sluice_tests::world::{Shape, servers};
use sluice_tests::{LIMIT, binary, story};

use crate::{SHOP, text};

/// Requests a second to the shop.
const RATE: f64 = 100.0;
/// Ends the script and all that it started; it takes about two minutes.
const SCRIPT_LIMIT: &str = "1200";
/// A script that fails half-way must not leave behind what it began.
const CLEAN_UP: &str = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n";

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands in the fenced block after each `<!-- MARK:N -->`, in order.
fn script(mark: &str) -> Result<String> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    let blocks: Vec<&str> = readme.split(&format!("<!-- {mark}:")).skip(1).collect();
    let mut script = String::from(CLEAN_UP);
    for (place, block) in blocks.iter().enumerate() {
        ensure!(
            block.starts_with(&format!("{} -->\n```sh\n", place + 1)),
            "block {} is out of place",
            place + 1
        );
        let (_, code) = block.split_once("```sh\n").context("no block")?;
        script += code.split_once("```").context("a block without an end")?.0;
    }
    ensure!(blocks.len() >= 5, "only {} blocks", blocks.len());
    Ok(script)
}

/// Requests go where the HTTPRoute says.
async fn traffic(kube: &Kube, fleet: &Fleet) -> Result<Load> {
    let routes = kube.watch(&Shape::HttpRoute.path("shop")).await?;
    let picker = fleet.picker();
    Load::choosing(RATE, move |number| {
        let route = routes.events().pop()?;
        let backends = Shape::HttpRoute.backends(&route.object);
        let total: u64 = backends.iter().map(|(_, weight)| weight).sum();
        let mut place = spread(number) * total as f64;
        let hit = backends.iter().find(|(_, weight)| {
            place -= *weight as f64;
            place < 0.0
        });
        picker.pick(("app", &hit?.0), number)
    })
}

async fn run(script: &str, environment: &[(&str, String)]) -> Result<String> {
    let mut command = tokio::process::Command::new("timeout");
    command.args(["--kill-after=5", SCRIPT_LIMIT, "bash", "-xeuo", "pipefail", "-c", script]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
        command.env_remove(name);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.current_dir(root()).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    let (said, traced) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}\n{said}\n{traced}", output.status);
    Ok(said.into_owned())
}

/// With the program and the real servers.
async fn path() -> Result<String> {
    let program = binary::sluice().await?;
    let program = program.parent().context("a program without a folder")?;
    let servers = binaries::servers().join("bin");
    Ok(format!("{}:{}:{}:/usr/sbin", program.display(), servers.display(), std::env::var("PATH")?))
}

#[test]
fn the_readme_can_be_followed_line_by_line() -> Result<()> {
    story(async {
        let shared = servers::shared().await?;
        let kube = shared.kube;
        let _alone = SHOP.lock().await;
        let nats = Nats::start(NatsOptions::default()).await?;
        // The pods' own doing, which no README tells of: they count, are scraped, and get requests.
        kube.apply("shop", &text("examples/walkthrough/shop.yaml")?).await?;
        let fleet = Fleet::follow(kube, "shop", Place::Loopback).await?;
        fleet.wait_until_ready(("app", "checkout"), 2, LIMIT).await?;
        fleet.feed(shared.targets("shop"))?;
        let _load = traffic(kube, &fleet).await?;
        shared
            .prometheus
            .wait_for("sum(http_requests_total{namespace=\"shop\"})", LIMIT, |count| count > RATE)
            .await?;

        let port = Port::free()?;
        let said = run(
            &script("walkthrough")?,
            &[
                ("PATH", path().await?),
                ("KUBECONFIG", kube.kubeconfig(Kube::ADMIN).display().to_string()),
                ("NATS_URL", nats.url()),
                ("PROMETHEUS_URL", shared.prometheus.url()),
                ("ALERTMANAGER_URL", shared.alertmanager.url()),
                ("SLUICE_LISTEN", port.address().to_string()),
            ],
        )
        .await?;
        for wanted in
            ["promoted after", "registry.example/checkout:v2", "looking at the logs", "weight 0 read back"]
        {
            ensure!(said.contains(wanted), "nowhere {wanted:?} in\n{said}");
        }
        Ok(())
    })
}

#[test]
fn the_walk_through_without_kubernetes_can_be_followed_line_by_line() -> Result<()> {
    story(async {
        binaries::packaged("haproxy")?;
        let (shop, v1, v2, listen) = (Port::free()?, Port::free()?, Port::free()?, Port::free()?);
        let number = |port: &Port| port.address().port().to_string();
        let address = listen.address();
        let said = run(
            &script("two-services")?,
            &[
                ("PATH", path().await?),
                ("SHOP_PORT", number(&shop)),
                ("V1_PORT", number(&v1)),
                ("V2_PORT", number(&v2)),
                ("SLUICE_LISTEN", address.to_string()),
                ("SLUICE_SERVER", address.to_string()),
            ],
        )
        .await?;
        // The order in which a reader sees it: v1 at first, v2 promoted, v3 put back, and v2 still there.
        let mut rest = said.as_str();
        for wanted in [
            "v1",
            "0 faults",
            "promoted after",
            "\nv2\n",
            "reverted after",
            "exit code 1",
            "errors",
            "\nv2\n",
        ] {
            let (_, after) =
                rest.split_once(wanted).with_context(|| format!("nowhere {wanted:?} in\n{said}"))?;
            rest = after;
        }
        Ok(())
    })
}
