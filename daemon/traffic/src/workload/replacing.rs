//! How a Deployment's pods come to another template, and back: a few at a time, or all old ones first. A DeploymentConfig's alike.
//!
//! Each step names its result and reads from the objects how far it has come, so any of them can run again after a crash. What
//! the policy asks of the Deployment's own strategy stands there only while its pods are replaced.

use json_patch::PatchOperation;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use sluice_rollout::Fence;
use sluice_wire::policy::{PodCount, Replace};

use super::config::check_paused;
use super::controller::Controller;
use super::deployment::{
    AT_START, Deployment, FORMER, REVERTED, Remembered, count, grow_to, pods_hash, replicas,
};
use super::promotion::template_for_stable;
use crate::kubernetes::marks::annotation;
use crate::kubernetes::object::Change;
use crate::kubernetes::patch::{add, path, remove, test};
use crate::{AtStart, TargetError};

/// The Deployment's own strategy, as JSON, while the policy's stands in its place.
const OWN_STRATEGY: &str = "sluice.dev/own-strategy";

/// How many templates that were put back are remembered.
const MOST_REVERTED: usize = 5;

/// Where the new template comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Canary(&'a Deployment),
    /// Of stable's own history, by the name of what keeps it: that stays, while a Deployment's revision gets another number once its
    /// template is taken again.
    History(&'a str),
}

impl Deployment {
    /// Whether its pods may be seen, which [`Deployment::empty`] needs: said before anything is touched.
    pub async fn check_replace(&self, replace: Option<&Replace>) -> Result<(), TargetError> {
        match replace {
            Some(Replace::Recreate(_)) => {
                let object = self.object.get().await?;
                self.pods.are_left(self.controller, &self.object.place, &object).await.map(drop)
            }
            Some(Replace::Rolling(_) | Replace::Custom(_)) | None => Ok(()),
        }
    }

    /// None of its pods is left, not even one that ends.
    pub async fn empty(&self, fence: Fence) -> Result<(), TargetError> {
        self.set(0, fence).await?;
        let left = |object: &DynamicObject| count(&object.data["status"]["replicas"]).unwrap_or(0);
        self.wait_until(|object| {
            let seen = object.data["status"]["observedGeneration"].as_i64() >= object.metadata.generation;
            seen && left(object) == 0
        })
        .await?;
        self.pods.wait_until_gone(self.controller, &self.object.place, &self.object.get().await?).await
    }

    /// One pod of the new template where none is; ends when it is available.
    pub async fn take_first(&self, source: Source<'_>, fence: Fence) -> Result<(), TargetError> {
        self.take_template(source, None, 1, fence).await
    }

    /// The new template at no less than this size; ends when all pods are available. One patch writes the template and where
    /// the former one is kept.
    pub async fn take(
        &self,
        source: Source<'_>,
        replace: Option<&Replace>,
        at_least: u32,
        fence: Fence,
    ) -> Result<(), TargetError> {
        self.take_template(source, replace, at_least, fence).await?;
        self.settle(fence).await
    }

    async fn take_template(
        &self,
        source: Source<'_>,
        replace: Option<&Replace>,
        at_least: u32,
        fence: Fence,
    ) -> Result<(), TargetError> {
        let before = self.object.get().await?;
        check_paused(&self.object.place, &before)?;
        let template = self.template_from(source, &before).await?;
        let former = match before.data["spec"]["template"] == template {
            true => None,
            false => Some(self.revisions.present(&self.object.place, &before).await?),
        };
        let present = &before.data["spec"]["strategy"];
        let strategy = replace.and_then(|replace| own_strategy_for(self.controller, replace, present));
        let write = |object: &DynamicObject| {
            let mut change = replace_template(&self.title(), object, &before, &template, former.as_deref())?;
            change.operations.extend(grow_to(object, at_least).operations);
            if let Some(strategy) = &strategy {
                ask_for(strategy, object, &mut change);
            }
            Ok(change)
        };
        self.object.edit(fence, write).await?;
        self.begin_version(fence).await?;
        self.wait_until_rolled_out().await
    }

    async fn template_from(&self, source: Source<'_>, before: &DynamicObject) -> Result<Value, TargetError> {
        match source {
            Source::Canary(canary) => {
                let object = canary.object.get().await?;
                check_unchanged(canary, before, &object)?;
                Ok(template_for_stable(before, &object))
            }
            Source::History(name) => self.revisions.template(&self.object.place, name).await,
        }
    }

    /// Back to the template that the promotion replaced and to no less than this size; nothing to do where both are so. Ends
    /// when the pods are available.
    pub async fn restore(&self, start: AtStart, fence: Fence) -> Result<(), TargetError> {
        let before = self.object.get().await?;
        let former = annotation(&before, FORMER);
        if former.is_none() && replicas(&before) >= start.stable {
            return self.settle(fence).await;
        }
        let template = match former {
            Some(former) => self.revisions.template(&self.object.place, former).await?,
            None => before.data["spec"]["template"].clone(),
        };
        let reverted = match before.data["spec"]["template"] == template {
            true => None,
            false => self.revisions.present(&self.object.place, &before).await.ok(),
        };
        let write = |object: &DynamicObject| {
            let mut change = replace_template(&self.title(), object, &before, &template, None)?;
            change.operations.extend(grow_to(object, start.stable).operations);
            if let Some(name) = &reverted {
                change.annotations.push((REVERTED, Some(with(annotation(object, REVERTED), name))));
            }
            Ok(change)
        };
        self.object.edit(fence, write).await?;
        self.begin_version(fence).await?;
        self.wait_until_rolled_out().await?;
        self.settle(fence).await
    }

    /// The Deployment's own strategy again, and what runs now is no template that was put back.
    async fn settle(&self, fence: Fence) -> Result<(), TargetError> {
        let object = self.object.get().await?;
        let present = match annotation(&object, REVERTED) {
            Some(_) => self.revisions.present(&self.object.place, &object).await.ok(),
            None => None,
        };
        let write = |object: &DynamicObject| {
            let mut change = Change::default();
            put_back_strategy(object, &mut change)?;
            if let (Some(names), Some(present)) = (annotation(object, REVERTED), &present)
                && names.split(',').any(|name| name == present)
            {
                let others: Vec<&str> = names.split(',').filter(|name| name != present).collect();
                let left = (!others.is_empty()).then(|| others.join(","));
                change.annotations.push((REVERTED, left));
            }
            Ok(change)
        };
        self.object.edit(fence, write).await.map(drop)
    }
}

/// `before`: the object that the template was made from; another one by now is an error that a second try mends.
pub(super) fn replace_template(
    title: &str,
    object: &DynamicObject,
    before: &DynamicObject,
    template: &Value,
    former: Option<&str>,
) -> Result<Change, TargetError> {
    let present = &object.data["spec"]["template"];
    if present == template {
        return Ok(Change::default());
    }
    if *present != before.data["spec"]["template"] {
        return Err(TargetError::Changed(format!("{title}: spec.template")));
    }
    let at = || path(["spec", "template"]);
    Ok(Change {
        operations: vec![test(at(), present.clone()), add(at(), template.clone())],
        annotations: former.map(|name| (FORMER, Some(name.to_owned()))).into_iter().collect(),
    })
}

/// What was judged is what is promoted.
pub(super) fn check_unchanged(
    canary: &Deployment,
    stable: &DynamicObject,
    source: &DynamicObject,
) -> Result<(), TargetError> {
    let judged = annotation(stable, AT_START)
        .and_then(|text| serde_json::from_str::<Remembered>(text).ok()?.canary_pods);
    match judged {
        Some(judged) if judged != pods_hash(source) => {
            let why = "it was changed after this rollout began, so it is not what was judged; announce it as a release of its own";
            Err(canary.object.place.unfit("spec.template", why))
        }
        Some(_) | None => Ok(()),
    }
}

/// As the kind writes it; what a DeploymentConfig's says of its deployer's pod stays. Recreate is ours: a Deployment's own has no hook
/// between and proves no first pod.
fn own_strategy_for(controller: Controller, replace: &Replace, present: &Value) -> Option<Value> {
    let Replace::Rolling(rolling) = replace else { return None };
    let count = |count: &PodCount| match count {
        PodCount::Pods(pods) => json!(pods),
        PodCount::Percent(_) => json!(count.to_string()),
    };
    let (surge, unavailable) = (count(&rolling.max_surge), count(&rolling.max_unavailable));
    match controller {
        Controller::Deployment => Some(json!({"type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})),
        Controller::DeploymentConfig => {
            let mut strategy = present.as_object().cloned().unwrap_or_default();
            strategy.retain(|field, _| !field.ends_with("Params"));
            strategy.insert("type".to_owned(), json!("Rolling"));
            let seconds = rolling.timeout.0.as_secs();
            let params = json!({"maxSurge": surge, "maxUnavailable": unavailable, "timeoutSeconds": seconds});
            strategy.insert("rollingParams".to_owned(), params);
            Some(Value::Object(strategy))
        }
        // Its template is never replaced.
        Controller::StatefulSet => None,
    }
}

/// The policy's strategy in place of the Deployment's own, which is remembered beside it.
fn ask_for(strategy: &Value, object: &DynamicObject, change: &mut Change) {
    let present = &object.data["spec"]["strategy"];
    if present == strategy {
        return;
    }
    change.operations.push(add(path(["spec", "strategy"]), strategy.clone()));
    if annotation(object, OWN_STRATEGY).is_none() {
        change.annotations.push((OWN_STRATEGY, Some(present.to_string())));
    }
}

fn put_back_strategy(object: &DynamicObject, change: &mut Change) -> Result<(), TargetError> {
    let Some(kept) = annotation(object, OWN_STRATEGY) else { return Ok(()) };
    let own: Value = serde_json::from_str(kept)
        .map_err(|error| TargetError::NotAsNeeded(format!("annotation {OWN_STRATEGY}: {error}")))?;
    change.operations.push(strategy_again(own));
    change.annotations.push((OWN_STRATEGY, None));
    Ok(())
}

fn strategy_again(own: Value) -> PatchOperation {
    let at = path(["spec", "strategy"]);
    if own.is_null() { remove(at) } else { add(at, own) }
}

/// The list with one more name, the oldest dropped.
fn with(names: Option<&str>, name: &str) -> String {
    let known = names.into_iter().flat_map(|names| names.split(',')).filter(|known| *known != name);
    let mut all: Vec<&str> = known.collect();
    all.push(name);
    let excess = all.len().saturating_sub(MOST_REVERTED);
    all.split_off(excess).join(",")
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn the_list_of_templates_that_were_put_back_stays_short_and_has_each_once() {
        assert_eq!(with(None, "a"), "a");
        assert_eq!(with(Some("a,b"), "a"), "b,a");
        assert_eq!(with(Some("a,b,c,d,e"), "f"), "b,c,d,e,f");
    }
}
