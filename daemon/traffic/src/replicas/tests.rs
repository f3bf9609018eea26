use sluice_wire::policy::{PromoteBy, Workload, Workloads};

use super::*;
use crate::kubernetes::marks::ORIGINAL;

fn canary(replicas: u32, held: Option<u32>) -> DynamicObject {
    let annotations =
        held.map_or(json!({}), |stable| json!({ORIGINAL: json!({"stable": stable}).to_string()}));
    serde_json::from_value(json!({
        "metadata": {"name": "checkout-canary", "annotations": annotations},
        "spec": {"replicas": replicas},
    }))
    .unwrap()
}

fn place() -> Place {
    Place {
        short: "deployment",
        kubectl: "deployment",
        namespace: "shop".to_owned(),
        name: "checkout-canary".to_owned(),
    }
}

fn percent(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

fn beside(stable: u32) -> Pods {
    let pods = Pods::default();
    pods.stable.store(stable, Ordering::Relaxed);
    pods
}

#[test]
fn what_an_autoscaler_gives_stable_meanwhile_is_no_other_weight_and_fewer_stable_pods_are_none_either() {
    let read = |stable, ours, meant| beside(stable).read(&place(), &canary(ours, Some(4)), meant).unwrap().0;
    let meant = Some(percent(20.0));
    assert_eq!(read(4, 1, meant), percent(20.0));
    assert_eq!(read(8, 1, meant), percent(20.0), "an autoscaler doubled stable: less than was meant");
    assert_eq!(read(8, 2, meant), percent(20.0), "and this is what would be written now");
    assert_eq!(read(2, 1, meant), percent(20.0), "stable was shrunk: its floor is put right elsewhere");
    assert_eq!(read(4, 2, meant), percent(33.33), "somebody scaled the canary");
    assert_eq!(read(4, 0, meant), Weight::ZERO);
}

#[test]
fn pods_are_written_for_the_larger_of_stables_sizes() {
    let written = |stable, weight| {
        let operations = beside(stable).write(&place(), &canary(0, Some(4)), percent(weight))?;
        Ok::<_, TargetError>(serde_json::to_value(operations).unwrap()[0]["value"].clone())
    };
    assert_eq!(written(4, 20.0), Ok(json!(1)));
    assert_eq!(written(8, 20.0), Ok(json!(2)));
    assert_eq!(written(1, 20.0), Ok(json!(1)));
    assert_eq!(written(4, 0.0), Ok(json!(0)));
    let refused = written(4, 5.0).unwrap_err().to_string();
    assert!(refused.contains("the finest is 20 %: one canary pod"), "{refused}");
}

#[test]
fn a_policy_that_can_never_work_is_refused_with_its_field() {
    let workloads = |promote| Workloads {
        stable: Workload::Deployment("checkout".into()),
        canary: Workload::Deployment("checkout-canary".into()),
        promote,
        ..Workloads::default()
    };
    let fields = |workloads: &Workloads, weights: &[f64]| {
        let weights: Vec<_> = weights.iter().map(|weight| ("at".to_owned(), percent(*weight))).collect();
        check(workloads, &weights).into_iter().map(|unfit| unfit.field).collect::<Vec<_>>()
    };
    let copied = workloads(PromoteBy::CopyTemplate);
    assert_eq!(fields(&copied, &[10.0, 25.0, 50.0]), Vec::<String>::new());
    assert_eq!(fields(&copied, &[95.0]), ["at"]);
    assert_eq!(fields(&copied, &[0.01]), ["spec.steps"]);
    assert_eq!(fields(&workloads(PromoteBy::Swap), &[10.0]), ["spec.workloads.promote"]);
    assert_eq!(fields(&Workloads::default(), &[10.0]), ["spec.workloads", "spec.workloads.promote"]);
}
