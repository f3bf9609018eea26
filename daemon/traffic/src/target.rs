//! The one list of targets.

use std::sync::Arc;

use sluice_rollout::Weight;
use sluice_wire::policy;

use crate::kubernetes::{httproute, names, selector, virtualservice};
use crate::{Clients, Target, TargetError, Unfit, haproxy, webhook};

/// The policy's target, ready to be asked. Reads nothing from it yet: `check` and `observe` do.
/// `namespace`: the policy's own, for targets that name none.
pub async fn connect(
    target: &policy::Target,
    namespace: &str,
    clients: &Clients,
) -> Result<Arc<dyn Target>, TargetError> {
    Ok(match target {
        policy::Target::HttpRoute(config) => Arc::new(httproute::connect(config, namespace, clients).await?),
        policy::Target::VirtualService(config) => {
            Arc::new(virtualservice::connect(config, namespace, clients).await?)
        }
        policy::Target::Service(config) => Arc::new(selector::connect(config, namespace, clients).await?),
        policy::Target::Haproxy(config) => Arc::new(haproxy::connect(config).await?),
        policy::Target::Webhook(config) => Arc::new(webhook::connect(config, clients)?),
    })
}

/// What is wrong with the block itself, and which of the policy's weights it can never express. Nothing outside is asked.
pub fn check(target: &policy::Target, weights: &[Weight]) -> Vec<Unfit> {
    match target {
        policy::Target::HttpRoute(config) => names::check(
            "httpRoute",
            &config.name,
            config.namespace.as_deref(),
            (&config.stable, &config.canary),
        ),
        policy::Target::VirtualService(config) => names::check(
            "virtualService",
            &config.name,
            config.namespace.as_deref(),
            (&config.stable, &config.canary),
        ),
        policy::Target::Service(config) => selector::check(config),
        policy::Target::Haproxy(config) => haproxy::check(config, weights),
        policy::Target::Webhook(config) => webhook::check(config).err().into_iter().collect(),
    }
}
