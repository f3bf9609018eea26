//! Own queries: templates of selectors, filled in for each version of each rollout.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior, Value};
use sluice_analyzers::Arm;
use sluice_wire::policy::{Prometheus, Queries};

use super::{families::Families, selector::Selector};
use crate::{
    ask::{AskError, Names},
    reading::arm_name,
};

/// Unknown names in a template are errors, never empty text.
pub(super) fn families(
    queries: &Queries,
    block: &Prometheus,
    names: &Names,
    arm: Arm,
) -> Result<Families, AskError> {
    let fill = |field: &str, template: &str| selector(field, template, block, names, arm);
    let fill_some = |field: &str, template: &Option<String>| match template {
        Some(template) => fill(field, template).map(Some),
        None => Ok(None),
    };
    Ok(Families {
        requests: fill("requests", &queries.requests)?,
        errors: fill("errors", &queries.errors)?,
        buckets: fill_some("buckets", &queries.buckets)?,
        up: fill_some("up", &queries.up)?,
        started: fill_some("started", &queries.started)?,
        pod_labels: queries.pod_labels.clone(),
        strata: Vec::new(),
        native: None,
        native_errors: Vec::new(),
    })
}

fn selector(
    field: &str,
    template: &str,
    block: &Prometheus,
    names: &Names,
    arm: Arm,
) -> Result<Selector, AskError> {
    let field = format!("spec.metrics.prometheus.queries.{field}");
    let text = expression(&field, template, block, names, arm)?;
    Selector::parse(&text).map_err(|error| AskError::new(&field, format!("{error}\n  in {text}")))
}

/// A template filled in; what it says is the server's to judge.
pub(super) fn expression(
    field: &str,
    template: &str,
    block: &Prometheus,
    names: &Names,
    arm: Arm,
) -> Result<String, AskError> {
    render(template, block, names, arm).map_err(|error| {
        AskError::new(
            field,
            format!("{error}; known names: namespace, arm, workload, service, stable, canary, labels.…"),
        )
    })
}

fn render(template: &str, block: &Prometheus, names: &Names, arm: Arm) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let named = |arm: Arm| block.labels.get(arm_name(arm)).or(names.arm(arm).workload.as_ref());
    let given: [(&str, Option<&String>); 5] = [
        ("namespace", block.labels.get("namespace").or(names.namespace.as_ref())),
        ("workload", named(arm)),
        ("service", names.arm(arm).service.as_ref()),
        ("stable", named(Arm::Stable)),
        ("canary", named(Arm::Canary)),
    ];
    // What the policy does not name stays undefined, so that a template which needs it is refused.
    let mut values: BTreeMap<&str, Value> =
        given.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?.as_str())))).collect();
    values.insert("arm", arm_name(arm).into());
    values.insert(
        "labels",
        Value::from_pairs(block.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
    );
    environment.render_str(template, Value::from_pairs(values))
}
