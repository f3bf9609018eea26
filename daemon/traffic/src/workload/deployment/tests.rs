use serde_json::json;

use super::*;
use crate::workload::promotion::{
    images, progress, stateful_progress, template_for_stable, template_of_replica_set,
};
use crate::workload::replacing::replace_template;

fn deployment(json: Value) -> DynamicObject {
    serde_json::from_value(json).unwrap()
}

fn stable() -> DynamicObject {
    deployment(json!({
        "metadata": {"name": "shop", "namespace": "shop", "generation": 3},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "shop"}, "matchExpressions": [{"key": "track", "operator": "In", "values": ["stable"]}]},
            "template": {
                "metadata": {"labels": {"app": "shop", "track": "stable", "release": "1"}},
                "spec": {"containers": [{"name": "app", "image": "shop:1"}]},
            },
        },
        "status": {"observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
    }))
}

fn canary() -> DynamicObject {
    deployment(json!({
        "metadata": {"name": "shop-canary", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "shop-canary", "canary-only": "yes"}},
            "template": {
                "metadata": {
                    "labels": {"app": "shop-canary", "canary-only": "yes", "release": "2", "new": "label", "track": "canary"},
                    "annotations": {"scrape": "true"},
                },
                "spec": {"containers": [{"name": "app", "image": "shop:2"}], "someNewField": {"a": 1}},
            },
        },
    }))
}

#[test]
fn stable_gets_the_canarys_template_with_its_own_selected_labels() {
    let template = template_for_stable(&stable(), &canary());
    assert_eq!(
        template["metadata"]["labels"],
        json!({"app": "shop", "track": "stable", "release": "2", "new": "label"})
    );
    assert_eq!(template["metadata"]["annotations"], json!({"scrape": "true"}));
    assert_eq!(
        template["spec"],
        canary().data["spec"]["template"]["spec"],
        "fields that nobody here knows come along"
    );
}

#[test]
fn a_template_that_changed_meanwhile_is_not_overwritten() {
    let template = template_for_stable(&stable(), &canary());
    let mut promoted = stable();
    promoted.data["spec"]["template"] = template.clone();
    let mut other = stable();
    other.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:hotfix");
    let change =
        |object: &DynamicObject| replace_template("shop", object, &stable(), &template, Some("shop-abc"));
    assert!(change(&promoted).unwrap().operations.is_empty(), "already there");
    assert!(matches!(change(&other), Err(TargetError::Changed(_))));
    let first = change(&stable()).unwrap();
    assert_eq!(first.annotations, [(FORMER, Some("shop-abc".into()))]);
    let sent = serde_json::to_value(first.operations).unwrap();
    assert_eq!((&sent[0]["op"], &sent[1]["op"]), (&json!("test"), &json!("add")));
}

#[test]
fn a_replica_sets_template_comes_back_without_the_controllers_label() {
    let mut set = stable();
    set.data["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] = json!("abc");
    assert_eq!(template_of_replica_set(&set, "pod-template-hash"), stable().data["spec"]["template"]);
}

#[test]
fn rollout_progress_is_told_as_kubectl_tells_it() {
    let status = |status: Value| {
        let mut object = stable();
        object.data["status"] = status;
        progress(&object)
    };
    assert_eq!(progress(&stable()), Progress::Done);
    let waits = [
        (
            json!({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
            "not seen",
        ),
        (
            json!({"observedGeneration": 3, "replicas": 4, "updatedReplicas": 1, "availableReplicas": 3}),
            "1 of 3 pods have",
        ),
        (
            json!({"observedGeneration": 3, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}),
            "1 old pods",
        ),
        (
            json!({"observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}),
            "2 of 3 pods are",
        ),
    ];
    for (given, words) in waits {
        let Progress::Waiting(what) = status(given) else { panic!("not waiting for {words:?}") };
        assert!(what.contains(words), "{what:?} does not say {words:?}");
    }
    let condition = json!({"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "has timed out progressing"});
    let stuck = status(json!({"observedGeneration": 3, "conditions": [condition]}));
    assert_eq!(stuck, Progress::Stuck("has timed out progressing".into()));
}

#[test]
fn gitops_owners_are_known_by_their_marks_and_by_what_they_manage() {
    let marked = |metadata: Value| gitops_owner(&deployment(json!({"metadata": metadata, "spec": {}})));
    let managed = |manager: &str, fields: Value| {
        marked(
            json!({"managedFields": [{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}]}),
        )
    };
    let template = json!({"f:spec": {"f:template": {"f:spec": {}}}});
    assert!(marked(json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}})).is_some());
    assert!(marked(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}})).is_some());
    assert!(marked(json!({"labels": {"helm.toolkit.fluxcd.io/name": "x"}})).is_some());
    assert!(managed("kustomize-controller", template.clone()).is_some());
    assert!(
        managed("argocd-controller", json!({"f:spec": {"f:replicas": {}}})).is_none(),
        "only the template counts"
    );
    assert!(managed("kubectl-client-side-apply", template).is_none());
    assert!(
        marked(json!({"labels": {"app.kubernetes.io/instance": "x"}})).is_none(),
        "everybody has that label"
    );
}

#[test]
fn sizes_count_the_canarys_new_pods_only() {
    let mut object = stable();
    object.data["status"] = json!({"availableReplicas": 3, "updatedReplicas": 1});
    assert_eq!(size(&object, Role::Stable), Size { wanted: 3, available: 3 });
    assert_eq!(size(&object, Role::Canary), Size { wanted: 3, available: 1 });
    object.data["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(size(&object, Role::Stable).wanted, 1, "the API server's default");
}

#[test]
fn what_was_judged_is_known_by_what_its_pods_run() {
    let (mut restarted, mut patched) = (canary(), canary());
    restarted.data["spec"]["template"]["metadata"]["annotations"]["restartedAt"] = json!("now");
    patched.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("shop:3");
    assert_eq!(pods_hash(&restarted), pods_hash(&canary()));
    assert_ne!(pods_hash(&patched), pods_hash(&canary()));
    assert_eq!(images(&patched), ["shop:3"]);
}

#[test]
fn a_stateful_set_is_rolled_out_as_kubectl_sees_it() {
    let set = |spec: Value, status: Value| -> DynamicObject {
        let object = json!({"metadata": {"name": "db", "generation": 4}, "spec": spec, "status": status});
        serde_json::from_value(object).unwrap()
    };
    let plain = json!({"replicas": 3});
    let partitioned = json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let by_hand = json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
    let status = |seen: u32, ready: u32, updated: u32, revision: &str| {
        json!({"observedGeneration": seen, "readyReplicas": ready, "updatedReplicas": updated,
            "currentRevision": "db-1", "updateRevision": revision})
    };
    let table = [
        (&plain, status(4, 3, 3, "db-1"), ""),
        (&plain, status(3, 3, 3, "db-1"), "not seen"),
        (&plain, status(4, 2, 3, "db-1"), "2 of 3 pods are ready"),
        (&plain, status(4, 3, 1, "db-2"), "1 of 3 pods have"),
        (&partitioned, status(4, 3, 1, "db-2"), ""),
        (&partitioned, status(4, 3, 0, "db-2"), "0 of 1 pods above the partition"),
        (&by_hand, status(4, 3, 0, "db-2"), ""),
    ];
    for (spec, status, words) in table {
        match stateful_progress(&set(spec.clone(), status.clone())) {
            Progress::Done => assert_eq!(words, "", "{status}"),
            Progress::Waiting(what) => assert!(!words.is_empty() && what.contains(words), "{what}"),
            Progress::Stuck(what) => panic!("{what}"),
        }
    }
}
