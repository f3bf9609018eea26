//! The policy's `analysis:` block and its conversion into a plan of the analyzers. (Being written.)

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the windows are judged. Everything has a default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Analysis {}
