//! `workloads:` how the two versions are run.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Job;
use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workloads {
    #[serde(default)]
    pub stable: Workload,
    #[serde(default)]
    pub canary: Workload,
    /// Who makes the canary's version the stable one.
    #[serde(default)]
    pub promote: PromoteBy,
    /// How stable's pods come to the new template; as the Deployment's own strategy says if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<Replace>,
    /// In place of the canary's template the one that this ReplicaSet of stable's keeps (of a DeploymentConfig: this
    /// ReplicationController): what `sluice undo` comes down to. (The number of a revision changes as soon as its template is taken
    /// again; what keeps it stays.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_replica_set: Option<String>,
    /// How long the old pods stay after promotion.
    #[serde(default = "thirty_seconds")]
    pub scale_down_delay: Span,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Workload {
    /// Name of an `apps/v1` Deployment in the policy's namespace. An autoscaler's minimum is its floor.
    Deployment(String),
    /// Name of an OpenShift `apps.openshift.io/v1` DeploymentConfig in the policy's namespace. To get a new template
    /// (`promote: copyTemplate`) it needs the trigger ConfigChange and no automatic ImageChange.
    DeploymentConfig(String),
    /// Name of an `apps/v1` StatefulSet in the policy's namespace. It is scaled and watched; its template stays its owner's, so
    /// `promote` is `swap` or `external`.
    StatefulSet(String),
    /// Somebody else runs it; Sluice neither scales nor replaces it.
    #[default]
    External,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PromoteBy {
    /// The canary's pod template becomes stable's; labels that stable's selector names stay. Both are Deployments, and no
    /// GitOps tool owns stable's template.
    #[default]
    CopyTemplate,
    /// The two change roles; nothing is copied.
    Swap,
    /// Somebody else gives stable the canary's images; Sluice waits until its pods are available. Both are Deployments.
    External,
}

/// How stable's pods come to the new template, and how long each part of that may take before it is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Replace {
    /// All old pods go, the mid hooks run, one new pod has to become available, then the rest begins.
    Recreate(Recreate),
    /// A few at a time.
    Rolling(Rolling),
    /// A Job of your own image does it, as OpenShift's Custom strategy has it. It has to give stable the images of
    /// `OPENSHIFT_DEPLOYMENT_NAME` (the canary's workload; stable's is `SLUICE_STABLE`); a Job that fails, or takes longer than its
    /// `timeout`, is undone. Only in policies that are files.
    Custom(Job),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Recreate {
    /// For each part: the old pods' end, the first new pod, the rest. Hooks have times of their own.
    pub timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rolling {
    /// Pods above stable's size: `1`, `25%`.
    pub max_surge: PodCount,
    /// Pods below stable's size: `0`, `25%`.
    pub max_unavailable: PodCount,
    pub timeout: Span,
}

/// OpenShift's own default of `timeoutSeconds`.
fn ten_minutes() -> Span {
    Span::from_secs(600)
}

impl Default for Recreate {
    fn default() -> Self {
        Recreate { timeout: ten_minutes() }
    }
}

impl Default for Rolling {
    fn default() -> Self {
        Rolling {
            max_surge: PodCount::default(),
            max_unavailable: PodCount::default(),
            timeout: ten_minutes(),
        }
    }
}

/// A number of pods, or a share of stable's size; rounded as Kubernetes does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodCount {
    Pods(u32),
    Percent(u32),
}

impl PodCount {
    /// Errors say what would be right.
    pub fn parse(text: &str) -> Result<PodCount, String> {
        let wrong = || format!("{text:?} is no number of pods: write for example 1 or 25%");
        let text = text.trim();
        match text.strip_suffix('%') {
            Some(share) => match share.trim().parse() {
                Ok(share @ 0..=100) => Ok(PodCount::Percent(share)),
                Ok(_) | Err(_) => Err(wrong()),
            },
            None => text.parse().map(PodCount::Pods).map_err(|_| wrong()),
        }
    }

    pub fn is_zero(&self) -> bool {
        matches!(self, PodCount::Pods(0) | PodCount::Percent(0))
    }
}

/// Kubernetes' own default of both.
impl Default for PodCount {
    fn default() -> Self {
        PodCount::Percent(25)
    }
}

impl fmt::Display for PodCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PodCount::Pods(pods) => write!(f, "{pods}"),
            PodCount::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// A number, or a text with a number or a share.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenCount {
    Number(u32),
    Text(String),
}

impl<'de> Deserialize<'de> for PodCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenCount::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("this is no number of pods: write for example 1 or 25%"))?;
        match written {
            WrittenCount::Number(pods) => Ok(PodCount::Pods(pods)),
            WrittenCount::Text(text) => PodCount::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

impl Serialize for PodCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            PodCount::Pods(pods) => serializer.serialize_u32(*pods),
            PodCount::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl JsonSchema for PodCount {
    fn schema_name() -> Cow<'static, str> {
        "PodCount".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+ ?%?$",
            "description": "A number of pods, or a share of stable's size: 1, 25%",
        })
    }
}

impl Replace {
    pub fn timeout(&self) -> Span {
        match self {
            Replace::Recreate(recreate) => recreate.timeout,
            Replace::Rolling(rolling) => rolling.timeout,
            Replace::Custom(job) => job.timeout,
        }
    }
}

impl Default for Workloads {
    fn default() -> Self {
        Workloads {
            stable: Workload::External,
            canary: Workload::External,
            promote: PromoteBy::Swap,
            replace: None,
            from_replica_set: None,
            scale_down_delay: thirty_seconds(),
        }
    }
}

fn thirty_seconds() -> Span {
    Span::from_secs(30)
}
