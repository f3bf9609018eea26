//! `gates:` what must say yes first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    pub name: String,
    #[serde(flatten)]
    pub kind: GateKind,
    /// How long it may stay silent before on-call is told.
    #[serde(default = "one_hour")]
    pub patience: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GateKind {
    /// A person says `promote` (or `skip`) on the bus.
    Approval {},
    /// No change within these times.
    Freeze(Freeze),
    /// 200 is yes, 403 is no for good, anything else is not yet (Flagger's and Keptn's habit).
    Webhook { url: String },
    /// Another policy's latest rollout has to be promoted first.
    Rollout { namespace: Option<String>, name: String },
}

/// Times without change, in a time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freeze {
    #[serde(default = "utc")]
    pub zone: String,
    /// Days of the week without change: `sat`, `sun`.
    #[serde(default)]
    pub days: Vec<Day>,
    /// Daily hours without change, `22:00-06:00`.
    #[serde(default)]
    pub hours: Vec<String>,
    /// Dates without change, `2026-12-24..2026-12-27`, both included.
    #[serde(default)]
    pub dates: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

fn utc() -> String {
    "UTC".to_owned()
}

fn one_hour() -> Span {
    Span::from_secs(3600)
}
