//! `strategy:` one word for how versions replace each other, and what it stands for; `hooks:` around the replacement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_rollout::Weight;

use super::document::Node;
use super::{Gate, InPlaceKind, PromoteBy, Recreate, Replace, Rolling, Spec, StepSpec, Target, Workload};

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
    /// No weights: a Job of your own image puts the new version in stable's place. `target: {inPlace: …}`, and
    /// `replace: {custom: {image: …}}`, which is to be written.
    Custom,
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
        matches!(self.target, Target::InPlace(_)) || self.workloads.from_replica_set.is_some()
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
            Some(Strategy::Canary | Strategy::BlueGreen | Strategy::Custom) | None => {}
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
            Some(Replace::Custom(job)) => format!("replace: a Job of {}, {} for it", job.image, job.timeout),
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
            Strategy::Custom => {
                format!("strategy custom: no weights and nothing judged beside it, {promote}, {replace}")
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
        let replace = self.workloads.replace.as_ref();
        let recreates = matches!(replace, Some(Replace::Recreate(_)));
        match self.strategy {
            Some(Strategy::Rolling | Strategy::Recreate | Strategy::Custom) if !self.is_in_place() => say(
                "spec.strategy",
                "rolling, recreate and custom have no weights: write target: {inPlace: {name: …}}, or strategy: canary and workloads.replace",
            ),
            Some(Strategy::Rolling) if !matches!(replace, Some(Replace::Rolling(_))) => {
                say("spec.workloads.replace", "says otherwise than the strategy rolling: keep one of them")
            }
            Some(Strategy::Recreate) if !recreates => {
                say("spec.workloads.replace", "says otherwise than the strategy recreate: keep one of them")
            }
            Some(Strategy::Custom) if !matches!(replace, Some(Replace::Custom(_))) => say(
                "spec.workloads.replace",
                "names no image that would do it: write replace: {custom: {image: …}}",
            ),
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
        wrong.extend(self.wrong_in_place());
        wrong
    }

    /// The lock of the target and the workload that is replaced are of one name.
    fn wrong_in_place(&self) -> Option<(String, String)> {
        let Target::InPlace(target) = &self.target else { return None };
        let wants = |kind| (kind != target.kind).then_some(kind);
        let (name, kind) = match &self.workloads.stable {
            Workload::Deployment(name) => (name, wants(InPlaceKind::Deployment)),
            Workload::DeploymentConfig(name) => (name, wants(InPlaceKind::DeploymentConfig)),
            Workload::StatefulSet(_) | Workload::External => {
                let why = "needs the Deployment or DeploymentConfig that is replaced: name it under workloads.stable";
                return Some(("spec.target.inPlace.name".to_owned(), why.to_owned()));
            }
        };
        if *name != target.name {
            let why = format!("is {:?}, and workloads.stable {name:?}: write the same name", target.name);
            return Some(("spec.target.inPlace.name".to_owned(), why));
        }
        let why = match kind? {
            InPlaceKind::Deployment => "workloads.stable is a deployment: leave it out",
            InPlaceKind::DeploymentConfig => "workloads.stable is a deploymentConfig: write that here, too",
        };
        Some(("spec.target.inPlace.kind".to_owned(), why.to_owned()))
    }
}

impl StepSpec {
    fn of(weight: Weight) -> StepSpec {
        StepSpec { weight, min: None, max: None, gates: Vec::new(), pause: false }
    }
}

#[cfg(test)]
mod tests {
    use sluice_rollout as rollout;

    use super::super::{Policy, PromoteBy};

    const IN_PLACE: &str = "{inPlace: {name: a}}";
    const ROUTER: &str = "{httpRoute: {name: r, stable: a, canary: b}}";
    const BOTH: &str = "stable: {deployment: a}, canary: {deployment: b}";

    fn parsed(strategy: &str, target: &str, workloads: &str, more: &str) -> Result<Policy, String> {
        let text = format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: RolloutPolicy\nmetadata: {{name: p}}\nspec:\n  strategy: {strategy}\n  \
             target: {target}\n  workloads: {{{workloads}}}\n  metrics: {{prometheus: {{url: \"http://p:9090\"}}}}\n{more}"
        );
        Policy::parse("p.yaml", text.as_bytes()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_word_brings_what_the_policy_leaves_out_and_what_it_says_itself_counts_first() {
        let canary = parsed("canary", ROUTER, BOTH, "").unwrap();
        assert_eq!(canary.machine().steps.len(), 4);
        let own = parsed("canary", ROUTER, BOTH, "  steps: [{weight: 7}]\n").unwrap();
        assert_eq!(own.machine().steps.len(), 1);

        let blue_green = parsed("blueGreen", ROUTER, BOTH, "").unwrap();
        assert_eq!((blue_green.spec.workloads.promote, blue_green.machine().flip), (PromoteBy::Swap, true));
        let copied = parsed("blueGreen", ROUTER, &format!("{BOTH}, promote: copyTemplate"), "").unwrap();
        assert_eq!(copied.spec.workloads.promote, PromoteBy::CopyTemplate);

        let recreate = parsed("recreate", IN_PLACE, BOTH, "").unwrap().machine();
        assert_eq!((recreate.in_place, recreate.replace), (true, rollout::Replace::Recreate));
        assert_eq!((recreate.bake, recreate.steps.len()), (None, 0));
        let rolling = parsed("rolling", IN_PLACE, BOTH, "").unwrap();
        assert_eq!(rolling.machine().replace, rollout::Replace::Rolling);
        let own =
            parsed("custom", IN_PLACE, &format!("{BOTH}, replace: {{custom: {{image: deployer}}}}"), "")
                .unwrap();
        assert_eq!(own.machine().limits.replace, Some(std::time::Duration::from_secs(600)));
        assert!(own.spec.implied().unwrap().ends_with("replace: a Job of deployer, 10m for it"));
        assert_eq!(own.jobs().len(), 1);
        let words = rolling.spec.implied().unwrap();
        assert!(words.contains("maxSurge 25%, maxUnavailable 25%, 10m"), "{words}");
        let again = serde_json::to_string(&rolling).unwrap();
        assert_eq!(Policy::parse("again", again.as_bytes()).unwrap(), rolling, "it is kept as it was read");
    }

    #[test]
    fn words_that_do_not_go_together_are_refused_with_the_remedy() {
        let rolling = |fields: &str| format!("{BOTH}, replace: {{rolling: {{{fields}}}}}");
        let custom = format!("{BOTH}, replace: {{custom: {{image: deployer}}}}");
        for (strategy, target, workloads, more, expected) in [
            ("rolling", ROUTER, BOTH, "", "write target: {inPlace"),
            ("canary", IN_PLACE, BOTH, "", "carries no weights"),
            ("recreate", IN_PLACE, BOTH, "  steps: [{weight: 5}]\n", "leave `steps` out"),
            ("recreate", IN_PLACE, rolling("").as_str(), "", "keep one of them"),
            ("custom", IN_PLACE, BOTH, "", "write replace: {custom: {image"),
            ("custom", ROUTER, custom.as_str(), "", "write target: {inPlace"),
            ("rolling", IN_PLACE, custom.as_str(), "", "keep one of them"),
            (
                "rolling",
                IN_PLACE,
                rolling("maxSurge: 0, maxUnavailable: 0%").as_str(),
                "",
                "give one of them 1",
            ),
            ("rolling", IN_PLACE, rolling("maxSurge: many").as_str(), "", "1 or 25%"),
            ("rolling", IN_PLACE, "canary: {deployment: b}", "", "name it under workloads.stable"),
            ("rolling", "{inPlace: {name: c}}", BOTH, "", "write the same name"),
            ("rolling", "{inPlace: {name: a, kind: deploymentConfig}}", BOTH, "", "leave it out"),
            (
                "rolling",
                IN_PLACE,
                "stable: {deploymentConfig: a}, canary: {deploymentConfig: b}",
                "",
                "write that here",
            ),
            (
                "rolling",
                IN_PLACE,
                "stable: {statefulSet: a}, canary: {deployment: b}",
                "",
                "name it under workloads.stable",
            ),
            (
                "rolling",
                IN_PLACE,
                BOTH,
                "  hooks: {mid: [{name: m, approval: {}}]}\n",
                "only workloads.replace",
            ),
            ("slowly", IN_PLACE, BOTH, "", "slowly"),
        ] {
            let refused = parsed(strategy, target, workloads, more).unwrap_err();
            assert!(refused.contains(expected), "{strategy} {workloads} {more}: {refused}");
        }
    }

    #[test]
    fn an_undo_has_no_weights_gates_or_hooks() {
        let gated = "  steps: [{weight: 5}]\n  gates: [{name: g, approval: {}}]\n  hooks: {post: [{name: h, approval: {}}]}\n";
        let undone = parsed("canary", ROUTER, BOTH, gated).unwrap().undone("a-5d4f");
        let machine = undone.machine();
        assert!(machine.in_place && machine.gates.is_empty() && machine.hooks.post.is_empty());
        let text = serde_json::to_string(&undone).unwrap();
        assert_eq!(Policy::parse("undone", text.as_bytes()).unwrap(), undone);
    }
}
