//! The least rights, on the real servers: NATS under `permissions.conf`, Kubernetes under `rbac.yaml`. A whole release goes
//! through with them; what lies beyond is refused.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_rig::folder::Folder;
use sluice_rig::nats::Release;
use sluice_rig::{Kube, Nats, NatsOptions, wait};
use sluice_tests::cli::{self, Output};
use sluice_tests::{Daemon, DaemonOptions, LIMIT, World, story};
use tokio::sync::OnceCell;

use crate::{SHOP, text};

/// One NATS server with the users of `permissions.conf`, whose shop is this namespace.
pub struct Gate {
    pub nats: Nats,
    pub password: Folder,
}

impl Gate {
    pub async fn open(release: Release, namespace: &str) -> Result<Gate> {
        let users = ["SLUICE_ADMIN", "SLUICE", "ANN", "CI_SHOP"]
            .map(|user| format!("{user}_PASSWORD: pw\n"))
            .concat();
        let permissions = text("nats/permissions.conf")?;
        let own = permissions.replace("sluice.event.shop.", &format!("sluice.event.{namespace}."));
        let own =
            own.replace("sluice.request.ci-shop.shop.", &format!("sluice.request.ci-shop.{namespace}."));
        ensure!(own != permissions, "permissions.conf names no shop any more");
        let more = format!("{users}{own}");
        let nats = Nats::start(NatsOptions { release, more, ..NatsOptions::default() }).await?;
        let password = Folder::new("password")?;
        password.write("pw", "pw")?;
        Ok(Gate { nats, password })
    }

    async fn daemon(&self, world: &World, name: &str) -> Result<Daemon> {
        Daemon::start(DaemonOptions {
            kubeconfig: Some(world.kube.kubeconfig("sluice")),
            more: self.options("sluice"),
            name: name.to_owned(),
            ..DaemonOptions::nats(&self.nats.url(), vec![world.policy(json!({"bake": {"for": "10m"}}))])
        })
        .await
    }

    /// As the comments in `permissions.conf` say.
    fn options(&self, user: &str) -> Vec<String> {
        let file = self.password.path().join("pw").display().to_string();
        let inbox = format!("_INBOX_{user}");
        ["--nats-user", user, "--nats-password-file", &file, "--nats-inbox-prefix", &inbox]
            .map(String::from)
            .to_vec()
    }

    pub async fn as_user(&self, user: &str, args: &[&str]) -> Result<Output> {
        let own = self.options(user);
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let url = self.nats.url();
        cli::sluice(&[args, &["--nats", &url, "--user", user], &own].concat(), &[]).await
    }
}

/// What `rbac.yaml` defines for the whole cluster, made once: of two that make the same objects at a time one fails.
pub async fn cluster_roles(kube: &Kube) -> Result<()> {
    static MADE: OnceCell<()> = OnceCell::const_new();
    let make = || async {
        let roles = text("kubernetes/rbac.yaml")?;
        let args = ["apply", "--validate=strict", "--filename=-"];
        kube.kubectl_as(Kube::ADMIN, &args, Some(&roles)).await.map(drop)
    };
    MADE.get_or_try_init(make).await?;
    Ok(())
}

/// Takes the world's own grant away and grants what `rbac.yaml` and `access.yaml` grant.
async fn grant(world: &World) -> Result<()> {
    let route = ("patch", "httproutes.gateway.networking.k8s.io");
    world.kubectl(&["delete", "rolebinding", "sluice"]).await?;
    world.kube.wait_rights("sluice", &world.namespace, route, false).await?;
    cluster_roles(world.kube).await?;
    let access = text("kubernetes/access.yaml")?;
    let subject = "{kind: ServiceAccount, name: sluice, namespace: sluice}";
    ensure!(access.contains(subject), "access.yaml names another subject than {subject}");
    let ours = access
        .replace(subject, "{apiGroup: rbac.authorization.k8s.io, kind: User, name: sluice}")
        .replace("namespace: shop", &format!("namespace: {}", world.namespace));
    world.apply(&ours).await?;
    for role in ["sluice-workloads", "sluice-httproute"] {
        world.kube.wait_role("sluice", &world.namespace, role).await?;
    }
    world.apply(&autoscaler()).await
}

/// Its minimum is held while the rollout runs, which takes rights of its own.
fn autoscaler() -> String {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "checkout"},
        "spec": {"minReplicas": 2, "maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout"}}})
    .to_string()
}

async fn carried_through(release: Release) -> Result<()> {
    let world = World::open("rights").await?;
    grant(&world).await?;
    let _load = world.load().await?;
    let gate = Gate::open(release, &world.namespace).await?;
    let rollout = world.rollout();

    let made = gate.as_user("sluice-admin", &["init"]).await?;
    ensure!(made.code == 0 && made.stdout.contains("SLUICE_EVENTS"), "{made:?}");
    let daemon = gate.daemon(&world, "left").await?;
    let other = gate.daemon(&world, "right").await?;

    // CI announces, and a person takes over and lets go again.
    let started = gate.as_user("ci-shop", &["start", &rollout, "--version", "v2"]).await?;
    ensure!(started.code == 0, "{started:?}\n{}", daemon.log());
    let paused = gate.as_user("ann", &["pause", &rollout, "--reason", "to look"]).await?;
    ensure!(paused.code == 0, "{paused:?}\n{}", daemon.log());
    not_theirs(&gate, &rollout).await?;
    // Over HTTP at the daemon that is not its owner: it is passed on below the daemons' own subject, kept and at once.
    let view = daemon.view(&rollout).await?;
    let elsewhere = if view.owner.as_deref() == Some("left") { &other } else { &daemon };
    let resumed = elsewhere.cli(&["resume", "--all", "--namespace", &world.namespace]).await?;
    ensure!(resumed.code == 0, "{resumed:?}\n{}\n{}", daemon.log(), other.log());
    daemon.wait_for(&rollout, "to bake", |view| view.phase == "baking").await?;
    let promoted = elsewhere.cli(&["promote", &rollout]).await?;
    ensure!(promoted.code == 0, "{promoted:?}\n{}\n{}", daemon.log(), other.log());
    let end = daemon.wait_for_end(&rollout).await?;
    ensure!(end.phase == "promoted", "{}", daemon.account(&rollout).await);

    // CI sees how it came out, and what a broken message comes to.
    wait::until("the history to say who commanded, and by which way", LIMIT, || async {
        let history = gate.as_user("ci-shop", &["history", &rollout]).await?;
        ensure!(history.code == 0 && history.stdout.contains("ann"), "{history:?}");
        for word in ["resume", "promote"] {
            let told = format!("tester, through another daemon asked for {word}");
            ensure!(history.stdout.contains(&told), "{told}: {history:?}");
        }
        Ok(Some(()))
    })
    .await?;
    let wrong = format!("{}/no-such-policy", world.namespace);
    let refused = gate.as_user("ci-shop", &["start", &wrong]).await?;
    ensure!(refused.code == 1 && refused.text().contains("no policy"), "{refused:?}");
    nothing_was_denied(&daemon)?;
    nothing_was_denied(&other)
}

/// What lies beyond is refused by the server itself.
async fn not_theirs(gate: &Gate, rollout: &str) -> Result<()> {
    let by_ci = gate.as_user("ci-shop", &["abort", rollout]).await?;
    ensure!(by_ci.code != 0 && by_ci.text().contains("Permissions Violation"), "CI may abort: {by_ci:?}");
    let by_ann = gate.as_user("ann", &["start", rollout, "--version", "v3"]).await?;
    ensure!(
        by_ann.code != 0 && by_ann.text().contains("Permissions Violation"),
        "a person may announce: {by_ann:?}"
    );
    // Under another's name, with her own password.
    let own = gate.options("ann");
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let url = gate.nats.url();
    let posing =
        cli::sluice(&[&["abort", rollout, "--nats", &url, "--user", "bob"], &own[..]].concat(), &[]).await?;
    ensure!(
        posing.code != 0 && posing.text().contains("Permissions Violation"),
        "ann may act as bob: {posing:?}"
    );
    Ok(())
}

/// Nothing of the daemon's own was refused on the way, by NATS or by the API server.
fn nothing_was_denied(daemon: &Daemon) -> Result<()> {
    let log = daemon.log();
    let denied = log.lines().find(|line| {
        let line = line.to_ascii_lowercase();
        line.contains("forbidden") || line.contains("permissions violation") || line.contains("denied")
    });
    denied.map_or(Ok(()), |line| Err(anyhow::anyhow!("refused on the way: {line}")))
}

#[test]
fn a_release_goes_through_with_the_least_rights_on_debians_nats() -> Result<()> {
    story(carried_through(Release::Debian))
}

#[test]
fn a_release_goes_through_with_the_least_rights_on_the_newest_nats() -> Result<()> {
    story(carried_through(Release::Latest))
}

#[test]
fn the_service_account_may_do_what_it_needs_in_its_namespace_and_nothing_beyond() -> Result<()> {
    story(async {
        let kube = Kube::shared().await?;
        let _alone = SHOP.lock().await;
        kube.kubectl_as(
            Kube::ADMIN,
            &["apply", "--filename=-"],
            Some(&text("examples/walkthrough/shop.yaml")?),
        )
        .await?;
        cluster_roles(kube).await?;
        let access = text("kubernetes/access.yaml")?;
        kube.kubectl_as(Kube::ADMIN, &["apply", "--filename=-"], Some(&access)).await?;
        let table = [
            ("shop", "patch", "httproutes.gateway.networking.k8s.io", true),
            ("shop", "watch", "deployments.apps", true),
            ("shop", "patch", "horizontalpodautoscalers.autoscaling", true),
            ("shop", "list", "endpointslices.discovery.k8s.io", true),
            ("shop", "watch", "rolloutpolicies.sluice.dev", true),
            ("shop", "create", "events.events.k8s.io", true),
            ("shop", "patch", "rolloutpolicies.sluice.dev", false),
            // Granted by roles that access.yaml does not bind.
            ("shop", "patch", "services", false),
            ("shop", "patch", "virtualservices.networking.istio.io", false),
            ("shop", "get", "secrets", false),
            ("shop", "create", "deployments.apps", false),
            ("shop", "delete", "httproutes.gateway.networking.k8s.io", false),
            ("shop", "create", "pods", false),
            ("shop", "*", "*", false),
            ("default", "patch", "httproutes.gateway.networking.k8s.io", false),
            ("default", "get", "deployments.apps", false),
        ];
        // The grants of a moment ago count once the API server's cache has them.
        let account = "system:serviceaccount:sluice:sluice";
        let granted = ("create", "events.events.k8s.io");
        kube.wait_rights(account, "shop", granted, true).await?;
        for (namespace, verb, resource, wanted) in table {
            let may = may(kube, namespace, verb, resource).await?;
            ensure!(may == wanted, "{verb} {resource} in {namespace}: {may}");
        }
        Ok(())
    })
}

/// A review of access by the API server itself.
async fn may(kube: &Kube, namespace: &str, verb: &str, resource: &str) -> Result<bool> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "system:serviceaccount:sluice:sluice",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:sluice", "system:authenticated"],
        "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": resource, "group": group}}});
    let args = ["create", "--filename=-", "--output=json"];
    let told = kube.kubectl_as(Kube::ADMIN, &args, Some(&review.to_string())).await?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    told["status"]["allowed"].as_bool().context("no answer to the review")
}
