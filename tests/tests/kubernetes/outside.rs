//! The world around a rollout moves: autoscalers shrink, GitOps tools write what they know.

use anyhow::{Result, ensure};
use serde_json::json;
use sluice_rig::wait;
use sluice_rollout::Outcome;
use sluice_tests::{Daemon, LIMIT, World, story};
use sluice_wire::view::RolloutView;

#[test]
fn an_autoscaler_may_not_shrink_stable_while_a_release_runs_and_gets_its_minimum_back() -> Result<()> {
    story(async {
        let world = World::open("autoscaler").await?;
        world.apply(AUTOSCALER).await?;
        let minimum = "/spec/minReplicas";
        let daemon = world.standing_at_ten(json!({})).await?;
        world.wait_field("hpa/checkout", minimum, json!(3)).await?;
        // What an autoscaler does once the load has gone to the canary.
        world.kubectl(&["scale", "deployment/checkout", "--replicas=1"]).await?;
        world.wait_field("deployment/checkout", "/spec/replicas", json!(3)).await?;
        abort(&world, &daemon).await?;
        world.wait_field("hpa/checkout", minimum, json!(1)).await
    })
}

const AUTOSCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: checkout}
spec:
  minReplicas: 1
  maxReplicas: 10
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: checkout}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

#[test]
fn whoever_scales_stable_down_finds_it_at_its_size_again_and_a_weight_is_only_reported_where_the_policy_says_so()
-> Result<()> {
    story(async {
        let world = World::open("scaled").await?;
        let daemon = world.standing_at_ten(json!({"onDrift": "report"})).await?;
        let mark = world.kube.audit.mark()?;
        world.kubectl(&["scale", "deployment/checkout", "--replicas=1"]).await?;
        world.wait_field("deployment/checkout", "/spec/replicas", json!(3)).await?;
        world.fleet.wait_until_ready(world.shape.stable_label(), 3, LIMIT).await?;
        // The log has a write once it was answered, which is later than its effect.
        let ours = wait::until("the write in the audit log", LIMIT, || async {
            let mut writes = world.kube.audit.by("sluice", &world.namespace, mark)?;
            writes.retain(|write| write.code < 300);
            Ok(Some(writes).filter(|writes| !writes.is_empty()))
        })
        .await?;
        ensure!(ours.len() == 1, "one write puts it right: {ours:?}");

        world.gitops_writes(0, 100).await?;
        let asks = |view: &RolloutView| view.phase == "paused" && !view.alerts.is_empty();
        daemon.wait_for(&world.rollout(), "to pause and ask a person", asks).await?;
        world.wait_weights(&[0.0, 10.0, 0.0]).await?;
        let resumed =
            world.bus.request("ann", &world.rollout(), "resume", json!({"reason": "it was me"})).await?;
        ensure!(resumed.accepted, "{resumed:?}");
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0]).await?;
        abort(&world, &daemon).await
    })
}

#[test]
fn a_gitops_tool_is_put_right_three_times_then_a_person_is_asked() -> Result<()> {
    story(async {
        let world = World::open("gitops").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        for time in 1..=3 {
            world.gitops_writes(0, 100).await?;
            let again = format!("(number {time} in five minutes)");
            daemon.wait_history(&world.rollout(), &again, |line| line.reason.contains(&again)).await?;
            world.wait_now(10.0).await?;
        }
        world.gitops_writes(0, 100).await?;
        let asks = |view: &RolloutView| view.phase == "paused" && !view.alerts.is_empty();
        daemon.wait_for(&world.rollout(), "to pause and ask a person", asks).await?;
        let summary = world.wait_alert("needs-attention").await?;
        ensure!(summary.contains("keeps setting the weight to 0 %"), "{summary}");
        let left_alone = |view: &RolloutView| view.phase == "paused";
        daemon.stays(&world.rollout(), "paused", World::A_WHILE, left_alone).await?;
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0, 0.0, 10.0, 0.0, 10.0, 0.0]).await?;
        abort(&world, &daemon).await
    })
}

#[test]
fn after_the_end_a_gitops_tool_is_put_right_downwards_only_as_long_as_the_canary_drains() -> Result<()> {
    story(async {
        let world = World::open("gitops-after").await?;
        let daemon = world.standing_at_ten(json!({"limits": {"drain": "10m"}})).await?;
        // Clients that hold on to the canary, so that it drains for as long as this story needs.
        let sticky = world.load_of_canary_alone().await?;
        let answer = world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        ensure!(answer.accepted, "{answer:?}");
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        for time in 1..=3 {
            world.gitops_writes(10, 90).await?;
            let again = format!("put back to 0 % (number {time} in five minutes)");
            daemon.wait_history(&world.rollout(), &again, |line| line.reason.contains(&again)).await?;
            world.wait_now(0.0).await?;
        }
        world.gitops_writes(10, 90).await?;
        let told = "keeps giving the canary traffic (10 %)";
        daemon.wait_history(&world.rollout(), told, |line| line.reason.contains(told)).await?;
        drop(sticky);
        // Then the rest of the end takes its course, and nobody is woken.
        world.wait_field("deployment/checkout-canary", "/spec/replicas", json!(0)).await?;
        world.wait_weights(&[0.0, 10.0, 0.0, 10.0, 0.0, 10.0, 0.0, 10.0, 0.0, 10.0]).await?;
        ensure!(world.finished(1).await?.len() == 1, "told twice");
        world.bus.wait_told(&world.rollout(), "attention").await?;
        ensure!(world.bus.told(&world.rollout(), "attention")?.len() == 1, "it is told once");
        ensure!(world.notified("needs-attention").await?.is_empty(), "an alert after the end");
        Ok(())
    })
}

#[test]
fn an_abort_that_the_api_server_refuses_goes_on_until_it_has_won() -> Result<()> {
    story(async {
        let world = World::open("gitops-abort").await?;
        let daemon = world.standing_at_ten(json!({})).await?;
        world.kubectl(&["delete", "rolebinding", "sluice"]).await?;
        let write = ("patch", "httproutes.gateway.networking.k8s.io");
        world.kube.wait_rights("sluice", &world.namespace, write, false).await?;
        world.bus.command("ann", &world.rollout(), "abort", json!({"reason": "bad"})).await?;
        let tries = |view: &RolloutView| view.phase == "reverting";
        daemon.wait_for(&world.rollout(), "to try", |view| tries(view) && !view.alerts.is_empty()).await?;
        // Meanwhile a tool writes weights of its own, above and below.
        for canary in [20, 5, 30] {
            world.gitops_writes(canary, 100 - canary).await?;
        }
        world.wait_alert("aborting").await?;
        daemon.stays(&world.rollout(), "aborting", World::A_WHILE, tries).await?;
        world.give_rights().await?;
        let ended = daemon.wait_for_end(&world.rollout()).await?;
        ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
        world.wait_now(0.0).await?;
        world.wait_weights(&[0.0, 10.0, 20.0, 5.0, 30.0, 0.0]).await?;
        world.wait_notified("aborting", &["firing", "resolved"]).await?;
        world.wait_put_back().await
    })
}

async fn abort(world: &World, daemon: &Daemon) -> Result<()> {
    let answer =
        world.bus.request("ann", &world.rollout(), "abort", json!({"reason": "enough seen"})).await?;
    ensure!(answer.accepted, "{answer:?}");
    let ended = daemon.wait_for_end(&world.rollout()).await?;
    ensure!(ended.outcome == Some(Outcome::Reverted), "{ended:?}");
    world.wait_now(0.0).await?;
    world.wait_put_back().await
}
