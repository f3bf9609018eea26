//! `schema`: the JSON Schema of a policy, or its kind for the Kubernetes API.

use sluice_wire::policy::{Policy, crd};

use crate::cli::{Exit, SchemaArgs};

use super::{Failure, Screen};

pub fn perform(args: SchemaArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let schema =
        if args.crd { crd::custom_resource_definition() } else { schemars::schema_for!(Policy).to_value() };
    let text = serde_json::to_string_pretty(&schema).map_err(std::io::Error::from)?;
    screen.text(&(text + "\n"))?;
    Ok(Exit::Well)
}
