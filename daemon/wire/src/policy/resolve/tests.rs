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
    assert!(unknown.starts_with("checkout.yaml:9:"), "{unknown}");
    assert!(unknown.contains("stepps"), "{unknown}");
    let weight = fault("{weight: 50}", "{weight: 101}");
    assert!(weight.starts_with("checkout.yaml:9:") && weight.contains("0 to 100"), "{weight}");
    let falling = fault("{weight: 50}", "{weight: 5}");
    assert!(falling.contains("spec.steps") && falling.contains("must rise"), "{falling}");
    let span = fault("45m", "45 minutes");
    assert!(span.contains("10m"), "{span}");
    assert!(fault("v1alpha1", "v9").contains("v1alpha1"));
    assert!(fault("name: checkout, namespace", "name: Check Out, namespace").contains("lower-case"));
}

#[test]
fn a_policy_of_ten_megabytes_is_refused_unread() {
    let large = vec![b'#'; 10 << 20];
    assert!(matches!(Policy::parse("x", &large), Err(PolicyFault::TooLarge { .. })));
}
