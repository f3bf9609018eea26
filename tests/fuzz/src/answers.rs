//! Answers of Prometheus' HTTP API, in the order of queries: to instant queries, and what the same bodies are as a range
//! and as gauges.

use std::cell::RefCell;
use std::sync::OnceLock;

use sluice_metrics_adapters::{Ask, SourceError, bodies::Answers};
use sluice_rollout::RolloutId;
use sluice_wire::policy::Policy;

use crate::{counted::Counting, parts};

const POLICY: &str = r#"
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: checkout, namespace: shop}
spec:
  target: {httpRoute: {name: checkout, stable: checkout, canary: checkout-canary}}
  workloads: {stable: {deployment: checkout}, canary: {deployment: checkout-canary}}
  metrics: {prometheus: {url: "http://prometheus:9090"}}
  analysis: {gauges: [{name: cpu, query: 'cpu_seconds{pod=~"{{ workload }}-.*"}'}]}
  steps: [{weight: 5}]
"#;
const EVERY_MS: i64 = 15_000;
const FIRST_MS: i64 = 1_790_000_000_000;

/// Inputs after which the queries are prepared anew: they remember whose each row was.
const FRESH_AFTER: u32 = 500;

thread_local! {
    static ANSWERS: RefCell<(u32, Answers<'static>)> = RefCell::new((0, answers()));
}

pub fn check(input: &[u8]) {
    ANSWERS.with_borrow_mut(|(tried, answers)| {
        if *tried % FRESH_AFTER == 0 {
            *answers = self::answers();
        }
        *tried = tried.wrapping_add(1);
        check_with(answers, input);
    });
}

fn check_with(answers: &mut Answers<'_>, input: &[u8]) {
    let (mut counting, mut history) = (Counting::default(), Counting::default());
    for (place, body) in parts(input).enumerate() {
        let at_ms = FIRST_MS + EVERY_MS * i64::try_from(place).expect("an input has few parts");
        match answers.instant(at_ms, body) {
            Ok(readings) => {
                assert_eq!(readings.len(), 1);
                readings.iter().for_each(|reading| counting.take(reading, 1));
            }
            Err(error) => told(&error),
        }
        match answers.range(EVERY_MS, body) {
            Ok(readings) => readings.iter().for_each(|reading| history.take(reading, 0)),
            Err(error) => told(&error),
        }
        if let Err(error) = answers.gauges(body) {
            told(&error);
        }
    }
}

fn told(error: &SourceError) {
    let words = error.to_string();
    assert!(!words.is_empty() && words.len() < 8_000, "{words}");
}

fn answers() -> Answers<'static> {
    static ASK: OnceLock<Ask> = OnceLock::new();
    let ask = ASK.get_or_init(|| {
        let policy = Policy::parse("policy.yaml", POLICY.as_bytes()).expect("the policy is sound");
        let id = RolloutId::new("shop", "checkout", "v2").expect("a name");
        Ask::of(&policy, id).expect("the policy says what is read")
    });
    Answers::to(ask).expect("Prometheus is asked")
}
