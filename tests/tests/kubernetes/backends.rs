//! `sluice backends` on a real Route, as a person uses it.

use anyhow::{Result, ensure};
use sluice_rig::Kube;
use sluice_rig::kube::Crds;
use sluice_rig::page::Page;
use sluice_tests::{Output, cli, story, world};

#[test]
fn a_routes_weights_are_shown_and_adjusted() -> Result<()> {
    story(async {
        let kube = world::servers::shared().await?.kube;
        kube.install(Crds::Routers).await?;
        let namespace = kube.namespace("backends").await?;
        kube.apply(&namespace, &Page::read("openshift-route")?.objects).await?;
        let config = kube.kubeconfig(Kube::ADMIN).display().to_string();
        let ask = async |args: &[&str]| -> Result<Output> {
            let route = format!("{namespace}/checkout");
            cli::sluice(&[&["backends", &route, "--kubeconfig", &config], args].concat(), &[]).await
        };
        let shown = ask(&[]).await?;
        ensure!(shown.code == 0 && shown.stdout.contains("100.0 %"), "{shown:?}");
        let adjusted = ask(&["--adjust", "checkout-canary=+15%", "-o", "json"]).await?;
        let backends = adjusted.json()?["backends"].clone();
        ensure!(backends[0]["weight"] == 85 && backends[1]["weight"] == 15, "{adjusted:?}");
        let equal = ask(&["--equal", "-o", "json"]).await?;
        ensure!(equal.json()?["backends"][1]["weight"] == 100, "{equal:?}");

        let unknown = ask(&["--adjust", "nowhere=5%"]).await?;
        ensure!(
            unknown.code == 2 && unknown.stderr.contains("they are checkout, checkout-canary"),
            "{unknown:?}"
        );
        let both = ask(&["--equal", "--zero"]).await?;
        ensure!(both.code == 2, "{both:?}");
        let missing =
            cli::sluice(&["backends", "nowhere", "-n", &namespace, "--kubeconfig", &config], &[]).await?;
        ensure!(missing.code == 2 && missing.stderr.contains("kubectl -n"), "{missing:?}");
        Ok(())
    })
}
