//! `backends`: the backends of an OpenShift Route, what their weights come to, and the arithmetic of `oc set route-backends`.
//!
//! It speaks to the cluster, or with `--policy` to the daemon. A Route that a rollout has in hand is not touched.

use serde_json::json;
use sluice_traffic::openshift::{self, Adjustment, Backend, Change};
use sluice_traffic::{Clients, TargetError};
use sluice_wire::message::Command;

use super::{Failure, Screen, overriding};
use crate::cli::{Aim, BackendsArgs, Exit, Global};
use crate::client::Client;

const ACTION: &str = "backends";

pub async fn perform(args: &BackendsArgs, global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    match (&args.policy, &args.route) {
        (Some(policy), _) => by_daemon(args, &policy.aim(global), global, screen).await,
        (None, Some(route)) => by_kubeconfig(args, route, global, screen).await,
        (None, None) => {
            Err(Failure::input("no Route is named", "name it, or with --policy the policy that has it"))
        }
    }
}

async fn by_daemon(
    args: &BackendsArgs,
    aim: &Aim,
    global: &Global,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if args.because.revision.is_some() {
        return Err(Failure::input("--revision is of a rollout, and none may run here", "leave it out"));
    }
    let backends = change(args)?.map(|change| change.to_string());
    let (id, reason) = (args.because.id.clone(), args.because.reason.clone());
    let command = Command { id, reason, backends, ..Command::default() };
    let command = overriding::signed(&args.because, global, aim, ACTION, command)?;
    overriding::ask(&Client::connect(global).await?, aim, ACTION, &command, screen).await
}

async fn by_kubeconfig(
    args: &BackendsArgs,
    route: &str,
    global: &Global,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let change = change(args)?;
    let clients = Clients::new(args.kubeconfig.clone()).map_err(unreached)?;
    let clients = clients.with_context(args.kube_context.clone());
    let (namespace, name) = route.split_once('/').unwrap_or_else(|| (global.namespace(), route));
    let route = openshift::connect_backends(namespace, name, &clients).await.map_err(unreached)?;
    let backends = match &change {
        None => route.read().await,
        Some(change) => route.change(change).await,
    };
    let backends = backends.map_err(unreached)?;
    let endpoints = route.endpoints(&backends).await.map_err(unreached)?;
    show(&backends, &endpoints, screen)?;
    Ok(Exit::Well)
}

fn change(args: &BackendsArgs) -> Result<Option<Change>, Failure> {
    let asked = args.adjust.as_deref().map(str::parse::<Adjustment>).transpose();
    let adjust =
        asked.map_err(|error| Failure::input(error.to_string(), "for example --adjust checkout=+5%"))?;
    Ok(match (adjust, args.equal, args.zero) {
        (Some(adjustment), _, _) => Some(Change::Adjust(adjustment)),
        (None, true, _) => Some(Change::Equal),
        (None, false, true) => Some(Change::Zero),
        (None, false, false) => None,
    })
}

fn unreached(error: TargetError) -> Failure {
    let remedy = "the route's namespace is given by -n, the cluster by --kubeconfig and --kube-context";
    Failure::target(&error, remedy)
}

/// One backend a line: what is written, and what its endpoints make of it.
fn show(backends: &[Backend], endpoints: &[u32], screen: &mut Screen) -> Result<(), Failure> {
    let both: Vec<(u32, u32)> =
        backends.iter().zip(endpoints).map(|(backend, endpoints)| (backend.weight, *endpoints)).collect();
    let shares = openshift::shares(&both);
    let total: u32 = backends.iter().map(|backend| backend.weight).sum();
    if screen.json() {
        let rows = backends.iter().zip(endpoints).zip(&shares).map(|((backend, endpoints), share)| {
            json!({"name": backend.name, "weight": backend.weight, "endpoints": endpoints, "share": share})
        });
        return Ok(screen.value(&json!({"backends": rows.collect::<Vec<_>>()}))?);
    }
    let widest = backends.iter().map(|backend| backend.name.len()).max().unwrap_or(0).max("BACKEND".len());
    screen.line(&format!("{:widest$}  WEIGHT  WRITTEN  ENDPOINTS  IN EFFECT", "BACKEND"))?;
    for ((backend, endpoints), share) in backends.iter().zip(endpoints).zip(shares) {
        let written = if total == 0 { 0.0 } else { 100.0 * f64::from(backend.weight) / f64::from(total) };
        let share = share * 100.0;
        screen.line(&format!(
            "{:widest$}  {:>6}  {written:>5.1} %  {endpoints:>9}  {share:>7.2} %",
            backend.name, backend.weight
        ))?;
    }
    for (at, backend) in backends.iter().enumerate() {
        if let Some(skew) = openshift::skew(&both, at) {
            screen.line(&format!("warning: {}: {skew}", backend.name))?;
        }
    }
    Ok(())
}
