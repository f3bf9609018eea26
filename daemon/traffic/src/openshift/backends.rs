//! A Route's backends for people: read with what they come to, and changed by hand.
//!
//! Who changes weights by hand under a rollout would be drift to it, so that is refused here; the rollout has a command for it.

use json_patch::PatchOperation;
use kube::api::DynamicObject;

use super::{AdjustmentError, Backend, Change};
use crate::kubernetes::marks::{Marks, WANTED, annotate, annotation};
use crate::kubernetes::object::Object;
use crate::kubernetes::patch::{add, path, test};
use crate::kubernetes::routers::openshift::ROUTE;
use crate::workload::endpoints::ready_endpoints;
use crate::{Clients, TargetError};

/// `<user> <id>` of the latest command to a daemon that adjusted this Route.
const ADJUSTED: &str = "sluice.dev/adjusted";
/// What a weight that is not written counts as.
const ABSENT: u64 = 100;

/// A handle on one Route's backends.
#[derive(Debug)]
pub struct Backends {
    route: Object,
    clients: Clients,
}

/// Reads nothing yet.
pub async fn connect(namespace: &str, name: &str, clients: &Clients) -> Result<Backends, TargetError> {
    Ok(Backends { route: Object::connect(clients, &ROUTE, namespace, name).await?, clients: clients.clone() })
}

impl Backends {
    /// `to`, then the alternates in their order.
    pub async fn read(&self) -> Result<Vec<Backend>, TargetError> {
        Ok(backends(&self.route.get().await?))
    }

    /// Ready endpoints of each backend's Service.
    pub async fn endpoints(&self, backends: &[Backend]) -> Result<Vec<u32>, TargetError> {
        let namespace = &self.route.place.namespace;
        let counts = backends.iter().map(|one| ready_endpoints(namespace, &one.name, &self.clients));
        futures::future::try_join_all(counts).await
    }

    /// Writes the weights that a change comes to, and gives them as they stand then.
    pub async fn change(&self, change: &Change) -> Result<Vec<Backend>, TargetError> {
        let after = self.route.edit_by_hand(|route| self.edit(route, change)).await?;
        Ok(backends(&after))
    }

    /// The same for a message that may come twice: `key` stays on the Route, and the last one that stands there has no second
    /// effect.
    pub async fn change_once(&self, change: &Change, key: &str) -> Result<Vec<Backend>, TargetError> {
        let once = |route: &DynamicObject| {
            if annotation(route, ADJUSTED) == Some(key) {
                return Ok(Vec::new());
            }
            let adjusted = annotate(route, &[(ADJUSTED, Some(key.to_owned()))]);
            Ok([self.edit(route, change)?, adjusted].concat())
        };
        Ok(backends(&self.route.edit_by_hand(once).await?))
    }

    fn edit(&self, route: &DynamicObject, change: &Change) -> Result<Vec<PatchOperation>, TargetError> {
        let place = &self.route.place;
        if let Some((rollout, weight)) = Marks::of(route).wanted {
            let why = format!(
                "{rollout} has it in hand and has written {weight}; use `sluice set-weight {rollout}`, or end it first"
            );
            return Err(place.unfit(&format!("metadata.annotations[{WANTED}]"), why));
        }
        let present = backends(route);
        let wanted = change.of(&present).map_err(|error| refusal(&place.title(), &error))?;
        let changed =
            present.iter().zip(wanted).enumerate().filter(|(_, (one, next))| one.weight != next.weight);
        let operations = changed.flat_map(|(at, (one, next))| {
            let entry = entry(at);
            let field = |name: &'static str| path(entry.iter().map(String::as_str).chain([name]));
            [test(field("name"), one.name.clone()), add(field("weight"), next.weight)]
        });
        Ok(operations.collect())
    }
}

fn refusal(title: &str, error: &AdjustmentError) -> TargetError {
    TargetError::NotAsNeeded(format!("{title}: {error}"))
}

fn backends(route: &DynamicObject) -> Vec<Backend> {
    let spec = &route.data["spec"];
    let alternates = spec["alternateBackends"].as_array().into_iter().flatten();
    let all = std::iter::once(&spec["to"]).chain(alternates);
    let weight =
        |one: &serde_json::Value| u32::try_from(one["weight"].as_u64().unwrap_or(ABSENT)).unwrap_or(u32::MAX);
    all.map(|one| Backend { name: one["name"].as_str().unwrap_or_default().to_owned(), weight: weight(one) })
        .collect()
}

/// Where the backend with this number stands.
fn entry(at: usize) -> Vec<String> {
    match at.checked_sub(1) {
        None => vec!["spec".to_owned(), "to".to_owned()],
        Some(alternate) => vec!["spec".to_owned(), "alternateBackends".to_owned(), alternate.to_string()],
    }
}
