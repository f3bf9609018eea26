//! `schema`: the JSON Schema of a policy.

use sluice_wire::policy::Policy;

use crate::cli::Exit;

use super::{Failure, Screen};

pub fn perform(screen: &mut Screen) -> Result<Exit, Failure> {
    let schema =
        serde_json::to_string_pretty(&schemars::schema_for!(Policy)).map_err(std::io::Error::from)?;
    screen.text(&(schema + "\n"))?;
    Ok(Exit::Well)
}
