//! `backends`: the backends of an OpenShift Route, what their weights come to, and the arithmetic of `oc set route-backends`.
//!
//! It speaks to the cluster and to no daemon. A Route that a rollout has in hand is not touched.

use serde_json::json;
use sluice_traffic::openshift::{self, Adjustment, Backend, Change};
use sluice_traffic::{Clients, TargetError};

use super::{Failure, Screen};
use crate::cli::{BackendsArgs, Exit, Global};

pub async fn perform(args: &BackendsArgs, global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let change = change(args)?;
    let clients = Clients::new(args.kubeconfig.clone()).map_err(unreached)?;
    let clients = clients.with_context(args.kube_context.clone());
    let (namespace, name) = place(args, global);
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

fn place<'a>(args: &'a BackendsArgs, global: &'a Global) -> (&'a str, &'a str) {
    args.route.split_once('/').unwrap_or_else(|| (global.namespace(), &args.route))
}

fn unreached(error: TargetError) -> Failure {
    let remedy = "the route's namespace is given by -n, the cluster by --kubeconfig and --kube-context";
    match error {
        TargetError::NotAsNeeded(_) | TargetError::Refused(_) => Failure::input(error.to_string(), remedy),
        TargetError::Fenced { .. }
        | TargetError::Changed(_)
        | TargetError::Unreachable(_)
        | TargetError::Pending(_)
        | TargetError::Timeout(_)
        | TargetError::TooFine { .. } => Failure::server(error.to_string(), remedy),
    }
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
