//! Several clusters on one NATS: each carries out its own policies, and takes over from its own daemons only.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::{LIMIT, World, story};
use sluice_wire::view::RolloutView;

/// The first step lasts until somebody ends it.
fn long_in(cluster: &str) -> serde_json::Value {
    json!({"cluster": cluster, "steps": [{"weight": 10, "min": "10m", "max": "1h"}, {"weight": 50}]})
}

fn stands_in<'a>(cluster: &'a str, owner: &'a str) -> impl Fn(&RolloutView) -> bool + 'a {
    move |view| {
        let whose = (view.cluster.as_deref(), view.owner.as_deref());
        view.phase == "observing" && whose == (Some(cluster), Some(owner))
    }
}

#[test]
fn each_cluster_acts_on_its_own_policies_and_none_takes_over_from_another() -> Result<()> {
    story(async {
        let world = World::open("clusters").await?;
        world.also("pay").await?;
        let (checkout, pay) = (world.rollout(), format!("{}/pay", world.namespace));
        let (of_north, of_south) =
            (world.policy(long_in("north")), world.policy_for("pay", long_in("south")));
        // North knows both, South its own alone.
        let mut north = world.daemon_in("north", "left", vec![of_north.clone(), of_south.clone()]).await?;
        let south = world.daemon_in("south", "right", vec![of_south]).await?;
        world.bus.announce(&checkout, "v2").await?;
        world.bus.announce(&pay, "v2").await?;
        for daemon in [&north, &south] {
            daemon.wait_for(&checkout, "to stand in north", stands_in("north", "left")).await?;
            daemon.wait_for(&pay, "to stand in south", stands_in("south", "right")).await?;
        }
        let shown = south.cli(&["status", &checkout]).await?;
        ensure!(shown.text().contains("north"), "{shown:?}");

        // At the wrong door it is said whose it is; what nobody has is refused once.
        let named = north.cli(&["start", &pay, "--version", "v3"]).await?;
        ensure!(named.code == 1 && named.text().contains("names cluster south"), "{named:?}");
        let unnamed = south.cli(&["start", &checkout, "--version", "v3"]).await?;
        ensure!(unnamed.code == 1 && unnamed.text().contains("no policy of this cluster"), "{unnamed:?}");
        world.bus.announce(&format!("{}/nobody", world.namespace), "v2").await?;
        let buried = || async { Ok(world.bus.dead().first().cloned()) };
        let letter = wait::until("the dead letter", LIMIT, buried).await?;
        let why = letter.header("Sluice-Reason").unwrap_or_default();
        ensure!(why.contains("no policy") && why.contains("other clusters (south)"), "{why}");

        // North's only daemon dies: South sees it, and leaves its rollout alone.
        let before = south.log().len();
        north.kill9();
        let alone = || async { Ok(south.log()[before..].contains("daemons=[\"right\"]").then_some(())) };
        wait::until("south to see that", LIMIT, alone).await?;
        world.bus.command("ann", &checkout, "abort", json!({"reason": "bad"})).await?;
        south.stays(&checkout, "north's", World::A_WHILE, stands_in("north", "left")).await?;
        let next = world.daemon_in("north", "left-2", vec![of_north]).await?;
        let ended = next.wait_for_end(&checkout).await?;
        let by_next = ended.owner.as_deref() == Some("left-2");
        ensure!(ended.outcome == Some(Outcome::Reverted) && by_next, "{ended:?}");
        world.wait_put_back().await?;
        south.wait_for(&pay, "to stand in south", stands_in("south", "right")).await?;
        ensure!(world.bus.dead().len() == 1, "{:?}", world.bus.dead());
        ensure!(world.finished(1).await?.len() == 1, "told twice");
        Ok(())
    })
}

#[test]
fn a_policy_inside_a_message_has_to_name_one_of_several_clusters() -> Result<()> {
    story(async {
        let world = World::open("inlined").await?;
        let north = world.daemon_in("north", "left", Vec::new()).await?;
        let south = world.daemon_in("south", "right", Vec::new()).await?;
        let both = || async { Ok(south.log().contains("daemons=[\"left\", \"right\"]").then_some(())) };
        wait::until("both to know each other", LIMIT, both).await?;
        let both = || async { Ok(north.log().contains("daemons=[\"left\", \"right\"]").then_some(())) };
        wait::until("both to know each other", LIMIT, both).await?;
        let announce = |policy: serde_json::Value| {
            json!({"specversion": "1.0", "id": "1", "source": "ci", "type": "dev.sluice.release.announced",
                "data": {"policy": policy}})
        };
        let path = format!("/events/{}", world.rollout());
        let (status, answer) = north.post(&path, &announce(world.policy_value(json!({})))).await?;
        let why = answer["message"].as_str().unwrap_or_default();
        ensure!(status == 409 && why.contains("spec.cluster: is missing"), "{status} {answer}");
        ensure!(why.contains("north") && why.contains("south"), "{why}");
        let (status, answer) = north.post(&path, &announce(world.policy_value(long_in("north")))).await?;
        ensure!(status == 202, "{status} {answer}");
        south.wait_for(&world.rollout(), "to stand in north", stands_in("north", "left")).await?;
        Ok(())
    })
}
