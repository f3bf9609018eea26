//! `strategy:` one word for how versions replace each other, and what it stands for; `hooks:` around the replacement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_rollout::Weight;

use super::document::Node;
use super::{Gate, PromoteBy, Recreate, Replace, Rolling, Spec, StepSpec, Target};

/// How the new version comes to the traffic. What the policy says itself counts before what the word implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// Weights, step by step: 1, 5, 25 and 50 % if `steps` is left out.
    Canary,
    /// All traffic in one write, the other version beside it: no steps, `promote: swap`.
    BlueGreen,
    /// No weights: stable's pods are replaced a few at a time. `target: {inPlace: …}`, `replace: {rolling: {}}`.
    Rolling,
    /// No weights: all old pods go before the new ones begin. `target: {inPlace: …}`, `replace: {recreate: {}}`.
    Recreate,
}

/// Hooks around stable's replacement, OpenShift's words: each is a gate (a `job`, a `webhook`, …) with a `failurePolicy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hooks {
    /// Before stable is touched, after `promoteGates`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre: Vec<Gate>,
    /// Between the old pods and the new ones: only with `replace: {recreate: {}}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mid: Vec<Gate>,
    /// When the new version has all traffic. A "no" puts the old one back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post: Vec<Gate>,
}

impl Hooks {
    pub fn is_empty(&self) -> bool {
        *self == Hooks::default()
    }

    /// With their fields below `spec.hooks`.
    pub fn lists(&self) -> [(&'static str, &Vec<Gate>); 3] {
        [("pre", &self.pre), ("mid", &self.mid), ("post", &self.post)]
    }
}

const CANARY_STEPS: [f64; 4] = [1.0, 5.0, 25.0, 50.0];

impl Spec {
    /// No weights: the new version takes stable's place.
    pub fn is_in_place(&self) -> bool {
        matches!(self.target, Target::InPlace(_)) || self.workloads.from_revision.is_some()
    }

    /// Fills in what the word stands for and the document does not say itself.
    pub(super) fn imply(&mut self, document: Option<&Node>) {
        let workloads = document.and_then(|root| root.get("spec")?.get("workloads"));
        let promote_is_said = workloads.is_some_and(|workloads| workloads.get("promote").is_some());
        match self.strategy {
            Some(Strategy::Canary) if self.steps.is_empty() => {
                let weights =
                    CANARY_STEPS.into_iter().filter_map(|percent| Weight::from_percent(percent).ok());
                self.steps = weights.map(StepSpec::of).collect();
            }
            Some(Strategy::BlueGreen) if !promote_is_said => self.workloads.promote = PromoteBy::Swap,
            Some(Strategy::Rolling) => {
                self.workloads.replace.get_or_insert_with(|| Replace::Rolling(Rolling::default()));
            }
            Some(Strategy::Recreate) => {
                self.workloads.replace.get_or_insert_with(|| Replace::Recreate(Recreate::default()));
            }
            Some(Strategy::Canary | Strategy::BlueGreen) | None => {}
        }
    }

    /// What the word came to, for people; nothing without one.
    pub fn implied(&self) -> Option<String> {
        let word = self.strategy?;
        let bake = match self.bake.length.0.is_zero() {
            true => "no bake".to_owned(),
            false => format!("bake for {}", self.bake.length),
        };
        let promote = match self.workloads.promote {
            PromoteBy::CopyTemplate => "promote: copyTemplate",
            PromoteBy::Swap => "promote: swap",
            PromoteBy::External => "promote: external",
        };
        let replace = match &self.workloads.replace {
            None => "stable is replaced as its own strategy says".to_owned(),
            Some(Replace::Recreate(recreate)) => {
                format!("replace: recreate, {} for each part", recreate.timeout)
            }
            Some(Replace::Rolling(rolling)) => format!(
                "replace: rolling, maxSurge {}, maxUnavailable {}, {} for it",
                rolling.max_surge, rolling.max_unavailable, rolling.timeout
            ),
        };
        Some(match word {
            Strategy::Canary => {
                let steps: Vec<String> = self.steps.iter().map(|step| step.weight.to_string()).collect();
                format!("strategy canary: steps {}, {bake}, {promote}, {replace}", steps.join(", "))
            }
            Strategy::BlueGreen => format!("strategy blueGreen: 0 to 100 % in one write, {bake}, {promote}"),
            Strategy::Rolling => {
                format!("strategy rolling: no weights and nothing judged beside it, {promote}, {replace}")
            }
            Strategy::Recreate => {
                format!("strategy recreate: no weights and nothing judged beside it, {promote}, {replace}")
            }
        })
    }

    /// Words that do not go together, with the remedy.
    pub(super) fn wrong_strategy(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |field: &str, why: &str| wrong.push((field.to_owned(), why.to_owned()));
        let in_place = matches!(self.target, Target::InPlace(_));
        let recreates = matches!(self.workloads.replace, Some(Replace::Recreate(_)));
        match self.strategy {
            Some(Strategy::Rolling | Strategy::Recreate) if !self.is_in_place() => say(
                "spec.strategy",
                "rolling and recreate have no weights: write target: {inPlace: {name: …}}, or strategy: canary and workloads.replace",
            ),
            Some(Strategy::Rolling) if recreates => {
                say("spec.workloads.replace", "says recreate and the strategy rolling: keep one of them")
            }
            Some(Strategy::Recreate) if !recreates => {
                say("spec.workloads.replace", "says rolling and the strategy recreate: keep one of them")
            }
            Some(Strategy::Canary | Strategy::BlueGreen) if in_place => say(
                "spec.strategy",
                "an inPlace target carries no weights: write rolling or recreate, or name the router",
            ),
            Some(_) | None => {}
        }
        if self.is_in_place() && self.workloads.promote != PromoteBy::CopyTemplate {
            say(
                "spec.workloads.promote",
                "without weights stable gets the canary's template: write copyTemplate",
            );
        }
        if self.workloads.replace.is_some() && self.workloads.promote != PromoteBy::CopyTemplate {
            say(
                "spec.workloads.replace",
                "says how stable gets the canary's template, and promote is not copyTemplate: leave it out",
            );
        }
        if !self.hooks.mid.is_empty() && !recreates {
            say(
                "spec.hooks.mid",
                "runs when no pod is left, which only workloads.replace: {recreate: {}} does: leave it out, or write that",
            );
        }
        if let Some(Replace::Rolling(rolling)) = &self.workloads.replace
            && rolling.max_surge.is_zero()
            && rolling.max_unavailable.is_zero()
        {
            say(
                "spec.workloads.replace.rolling.maxSurge",
                "is 0 as maxUnavailable is, so no pod could ever be replaced: give one of them 1",
            );
        }
        wrong
    }
}

impl StepSpec {
    fn of(weight: Weight) -> StepSpec {
        StepSpec { weight, min: None, max: None, gates: Vec::new(), pause: false }
    }
}
