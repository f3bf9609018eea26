use super::*;

const CHECKOUT: &str = r"
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {httpRoute: {name: checkout, stable: checkout, canary: checkout-canary}}
  workloads: {stable: {deployment: checkout}, canary: {deployment: checkout-canary}, promote: copyTemplate}
  metrics: {prometheus: {url: http://prometheus:9090, preset: istio}}
  steps: [{weight: 1}, {weight: 5}, {weight: 25}, {weight: 50}]
  limits: {step: {min: 60s, max: 45m}, onDeadline: hold}
  bake: {for: 10m, holdback: 5%}
";

fn fault(from: &str, to: &str) -> String {
    assert!(CHECKOUT.contains(from), "{from} is not in the policy");
    Policy::parse("checkout.yaml", CHECKOUT.replace(from, to).as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_designs_policy_reads_and_resolves() {
    let policy = Policy::parse("checkout.yaml", CHECKOUT.as_bytes()).unwrap();
    let machine = policy.machine();
    assert_eq!(machine.steps.len(), 4);
    assert_eq!(machine.bake.unwrap().weight.percent(), 95.0);
    assert_eq!(machine.promote, Promote::CopyTemplate);
}

#[test]
fn only_target_metrics_and_steps_must_be_written() {
    let least = r"
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout}
spec:
  target: {webhook: {url: http://127.0.0.1:1}}
  metrics: {scrape: {stable: [http://127.0.0.1:2/metrics], canary: [http://127.0.0.1:3/metrics]}}
  steps: [{weight: 10}]
";
    Policy::parse("least.yaml", least.as_bytes()).unwrap();
}

#[test]
fn faults_name_file_line_field_and_remedy() {
    let unknown = fault("steps:", "stepps:");
    assert!(
        unknown.contains("checkout.yaml:9:3: spec.stepps: unknown field; did you mean steps?"),
        "{unknown}"
    );
    assert!(fault("{weight: 50}", "{weight: 101}").starts_with("checkout.yaml:9:52: spec.steps[3].weight: "));
    let falling = fault("{weight: 50}", "{weight: 5}");
    assert!(falling.starts_with("checkout.yaml:9:52: spec.steps[3].weight: step 4"), "{falling}");
    assert!(falling.contains("must rise"), "{falling}");
    assert!(fault("45m", "45 minutes").contains("10m"));
    assert!(fault("v1alpha1", "v9").contains("v1alpha1"));
    let name = fault("name: checkout, namespace", "name: Check Out, namespace");
    assert!(name.starts_with("checkout.yaml:4:12: metadata.name: ") && name.contains("lower-case"), "{name}");
}

#[test]
fn all_faults_are_told_at_once() {
    let wrong = CHECKOUT
        .replace("holdback", "holdbak")
        .replace("{weight: 25}", "25")
        .replace("v1alpha1", "v2")
        .replace("onDeadline: hold", "onDeadline: wait");
    let told = Policy::parse("checkout.yaml", wrong.as_bytes()).unwrap_err();
    let told: Vec<_> =
        told.iter().map(|fault| (fault.place.unwrap().0, fault.field.clone().unwrap())).collect();
    let fields = ["apiVersion", "spec.steps[2]", "spec.limits.onDeadline", "spec.bake.holdbak"];
    assert_eq!(told, [2, 9, 10, 11].into_iter().zip(fields.map(String::from)).collect::<Vec<_>>());

    let meant = CHECKOUT
        .replace("{weight: 5}", "{weight: 0}")
        .replace("{weight: 50}", "{weight: 25, min: 2h, max: 1h}");
    let told = Policy::parse("checkout.yaml", meant.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("spec.steps[1].weight") && told.contains("spec.steps[3].weight"), "{told}");
}

#[test]
fn what_is_no_document_says_what_it_is() {
    let told = |bytes: &[u8]| Policy::parse("x.yaml", bytes).unwrap_err().to_string();
    assert!(told(&vec![b'#'; 10 << 20]).contains("more than a policy may have"));
    assert!(told(b"# only words\n---\n").starts_with("x.yaml: the file is empty: begin with apiVersion"));
    assert!(told(b"kind: \xff").starts_with("x.yaml:1:7: not UTF-8"));
    assert!(told(b"[1, 2]").contains("expected"), "{}", told(b"[1, 2]"));
    let two = told(format!("{}---\n{}", &CHECKOUT[1..], &CHECKOUT[1..]).as_bytes());
    assert!(two.contains("file of its own"), "{two}");
    assert_eq!(told(b"a: [1\nb: 2\n"), "x.yaml:2:2: illegal placement of ':' indicator");
    let other = told(b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: []}\n");
    assert_eq!(other, "x.yaml:2:1: kind: \"Service\" is no policy; write RolloutPolicy");
}

#[test]
fn a_policy_from_a_message_has_fields_and_no_lines() {
    let value = serde_json::json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "spec": {}});
    let told = Policy::from_json("data.policy", &value).unwrap_err().to_string();
    assert!(told.contains("data.policy: metadata.name: is missing"), "{told}");
}
