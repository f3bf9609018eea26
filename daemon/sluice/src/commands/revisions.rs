//! `revisions`: what a Deployment or DeploymentConfig has run, by number, as its controller keeps it. It speaks to the cluster and to
//! no daemon.

use sluice_traffic::{Clients, Revision, TargetError, connect_history};
use sluice_wire::policy::Workload;

use super::{Failure, Screen};
use crate::cli::{Exit, Global, RevisionsArgs};

pub async fn perform(args: &RevisionsArgs, global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let clients = Clients::new(args.kubeconfig.clone()).map_err(unreached)?;
    let clients = clients.with_context(args.kube_context.clone());
    let named = args.workload.split_once('/');
    let (namespace, name) = named.unwrap_or_else(|| (global.namespace(), &args.workload));
    let workload = match args.deployment_config {
        true => Workload::DeploymentConfig(name.to_owned()),
        false => Workload::Deployment(name.to_owned()),
    };
    let history = connect_history(&workload, namespace, &clients).await.map_err(unreached)?;
    show(&history.read().await.map_err(unreached)?, screen)?;
    Ok(Exit::Well)
}

fn unreached(error: TargetError) -> Failure {
    let remedy = "the namespace is given by -n, the cluster by --kubeconfig and --kube-context; an OpenShift DeploymentConfig is meant with --deployment-config";
    Failure::target(&error, remedy)
}

/// One revision a line, oldest first.
fn show(revisions: &[Revision], screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() {
        return screen.value(&serde_json::json!({"revisions": revisions}));
    }
    screen.line("REVISION  STANDS    IMAGES")?;
    for one in revisions {
        let stands = match (one.current, one.reverted) {
            (true, _) => "current",
            (false, true) => "put back",
            (false, false) => "",
        };
        let cause = one.cause.as_ref().map(|cause| format!("  ({cause})")).unwrap_or_default();
        screen.line(&format!("{:>8}  {stands:8}  {}{cause}", one.number, one.images.join(", ")))?;
    }
    Ok(())
}
