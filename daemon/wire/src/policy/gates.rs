//! `gates:` what must say yes first.

use std::collections::BTreeMap;

use jiff::{
    civil::{Date, Time},
    tz::TimeZone,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Policy, Replace};
use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gate {
    pub name: String,
    #[serde(flatten)]
    pub kind: GateKind,
    /// What its "no" does.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// How long it may stay silent before on-call is told.
    #[serde(default = "one_hour")]
    pub patience: Span,
}

/// What a gate's "no" does: OpenShift's words for its hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailurePolicy {
    /// The rollout ends, and what it has done is put back.
    #[default]
    Abort,
    /// It is asked again (a Job runs anew), until it says yes or somebody decides.
    Retry,
    /// It counts as yes, and is logged.
    Ignore,
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
    /// A Job of your image: yes if it succeeds, no if it fails. Only in policies that are files.
    Job(Job),
    /// Another policy's latest rollout has to be promoted first.
    Rollout { namespace: Option<String>, name: String },
}

/// A `batch/v1` Job in the policy's namespace. Its pod is told what is rolled out: `SLUICE_ROLLOUT`, `SLUICE_RELEASE`,
/// `SLUICE_GATE`, `OPENSHIFT_DEPLOYMENT_NAME` (the canary's workload) and `OPENSHIFT_DEPLOYMENT_NAMESPACE`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    pub image: String,
    /// The image's own if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Without one the pod has no token for the API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// A Job that runs for longer has failed.
    #[serde(default = "ten_minutes")]
    pub timeout: Span,
}

impl Policy {
    /// Every list of gates, hooks included, with its field.
    pub fn gate_lists(&self) -> Vec<(String, &Vec<Gate>)> {
        let spec = &self.spec;
        let steps = spec.steps.iter().enumerate();
        let steps = steps.map(|(index, step)| (format!("spec.steps[{index}].gates"), &step.gates));
        let hooks = spec.hooks.lists().into_iter();
        let hooks = hooks.map(|(name, gates)| (format!("spec.hooks.{name}"), gates));
        let before = [("spec.gates".to_owned(), &spec.gates)].into_iter();
        let promotion = [("spec.promoteGates".to_owned(), &spec.promote_gates)];
        before.chain(steps).chain(promotion).chain(hooks).collect()
    }

    /// Every gate of the policy, wherever it stands.
    pub fn all_gates(&self) -> impl Iterator<Item = &Gate> {
        self.gate_lists().into_iter().flat_map(|(_, gates)| gates)
    }

    /// What of the policy runs an image, with its field: `gate smoke` at `spec.gates[0].job`.
    pub fn jobs(&self) -> Vec<(String, String)> {
        let of = |(field, gates): (String, &Vec<Gate>)| -> Vec<(String, String)> {
            let jobs = gates.iter().enumerate().filter(|(_, gate)| matches!(gate.kind, GateKind::Job(_)));
            jobs.map(|(index, gate)| (format!("{field}[{index}].job"), format!("gate {}", gate.name)))
                .collect()
        };
        let custom = match &self.spec.workloads.replace {
            Some(Replace::Custom(_)) => Some("workloads.replace".to_owned()),
            Some(Replace::Recreate(_) | Replace::Rolling(_)) | None => None,
        };
        let custom = custom.map(|who| ("spec.workloads.replace.custom".to_owned(), who));
        self.gate_lists().into_iter().flat_map(of).chain(custom).collect()
    }
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

impl Freeze {
    /// The field (below this block) that is no calendar, and the remedy.
    pub fn wrong(&self) -> Vec<(String, String)> {
        let zone = TimeZone::get(&self.zone).err();
        let zone = zone.map(|error| ("zone".to_owned(), format!("{error}; write for example Europe/Berlin")));
        let hours = refused("hours", &self.hours, |text| Hours::parse(text).map(drop));
        let dates = refused("dates", &self.dates, |text| Dates::parse(text).map(drop));
        zone.into_iter().chain(hours).chain(dates).collect()
    }
}

fn refused(
    field: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<(), String>,
) -> Vec<(String, String)> {
    let refused = |(index, text): (usize, &String)| Some((format!("{field}[{index}]"), parse(text).err()?));
    texts.iter().enumerate().filter_map(refused).collect()
}

/// `22:00-06:00`, past midnight too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    pub from: Time,
    pub to: Time,
}

/// `2026-12-24..2026-12-27`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    pub from: Date,
    pub to: Date,
}

impl Hours {
    pub fn parse(text: &str) -> Result<Hours, String> {
        let wrong = || format!("hours {text:?}: write for example 22:00-06:00");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| text.trim().parse().map_err(|_| wrong());
        Ok(Hours { from: time(from)?, to: time(to)? })
    }

    pub fn contain(&self, at: Time) -> bool {
        let Hours { from, to } = *self;
        if from <= to { from <= at && at < to } else { at >= from || at < to }
    }
}

impl Dates {
    pub fn parse(text: &str) -> Result<Dates, String> {
        let wrong = || format!("dates {text:?}: write for example 2026-12-24..2026-12-27");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let date = |text: &str| text.trim().parse().map_err(|_| wrong());
        let (from, to) = (date(from)?, date(to)?);
        if to < from {
            Err(format!("dates {text:?} end before they begin: write the earlier one first"))
        } else {
            Ok(Dates { from, to })
        }
    }

    pub fn contain(&self, at: Date) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

fn utc() -> String {
    "UTC".to_owned()
}

fn ten_minutes() -> Span {
    Span::from_secs(600)
}

fn one_hour() -> Span {
    Span::from_secs(3600)
}
