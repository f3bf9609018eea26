//! The one list of targets.

use std::sync::Arc;

use sluice_wire::policy;

use crate::kubernetes::{httproute, selector, virtualservice};
use crate::{Clients, Target, TargetError, haproxy, webhook};

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
