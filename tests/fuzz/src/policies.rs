//! Policies, in YAML or JSON.
//!
//! One that is taken is taken again as the charter keeps it, with the same meaning; nothing that later asks it fails; what
//! may be shown of it stays the same when it is shown again. One that is refused is refused in words, and not in too many.

use sluice::policy_files;
use sluice_metrics_adapters::Ask;
use sluice_rollout::RolloutId;
use sluice_wire::policy::{Places, Policy, shown};

pub fn check(input: &[u8]) {
    let policy = match policy_files::parse("policy.yaml", input) {
        Ok(policy) => policy,
        Err(faults) => return told(&faults.to_string()),
    };
    let kept = serde_json::to_string(&policy).expect("a policy is JSON");
    let again = Policy::parse("charter", kept.as_bytes());
    assert_eq!(again.as_ref(), Ok(&policy), "it was kept as {kept}");
    assert!(policy.plan().is_ok() && policy.machine().faults().is_empty());
    let id = RolloutId::new(&policy.metadata.namespace, &policy.metadata.name, "v2");
    assert!(Ask::of(&policy, id.expect("a policy's name names a rollout")).is_ok());
    let once = shown(&kept);
    assert_eq!(shown(&once), once);
    let swapped = policy.swapped();
    if swapped != policy {
        assert_eq!(swapped.swapped(), policy, "swapped twice it is another");
    }
    Places::of(input).of_field("spec.steps[0].weight");
}

fn told(faults: &str) {
    assert!(!faults.is_empty() && faults.len() < 100_000, "{} bytes of faults", faults.len());
}
