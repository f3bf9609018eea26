//! Gauges are read between two windows, so that no abort ever waits for them: asked for once a window was judged, and put
//! into the next one. What has not come until then is left out of that window, and said.

use sluice_analyzers::Window;
use sluice_metrics_adapters::{Ask, Gauges, SourceError};
use tokio::task::JoinSet;

use super::{clock::now, hub::Hub};

/// At most one question is under way; dropped with its owner.
#[derive(Default)]
pub struct GaugeReader {
    asked: JoinSet<Result<Gauges, SourceError>>,
}

impl GaugeReader {
    /// Asks for the values as they are now, if the policy names any and the last question was answered.
    pub fn ask(&mut self, hub: &Hub, ask: &Ask) {
        if ask.has_gauges() && self.asked.is_empty() {
            let (source, ask, at_ms) = (hub.source().clone(), ask.clone(), hub.on_its_clock(now()));
            self.asked.spawn(async move { source.gauges(&ask, at_ms).await });
        }
    }

    /// Puts what came into the window. Answers with what did not, in words.
    pub fn fill(&mut self, window: &mut Window) -> Vec<String> {
        match self.asked.try_join_next() {
            Some(Ok(Ok(gauges))) => gauges.fill(window),
            Some(Ok(Err(error))) => vec![format!("gauges: {error}")],
            Some(Err(error)) => vec![format!("gauges: the read ended early: {error}")],
            None if self.asked.is_empty() => Vec::new(),
            None => vec!["gauges: no answer yet; this window goes without".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use async_trait::async_trait;
    use sluice_analyzers::{Arm, PodWindow};
    use sluice_metrics_adapters::{GaugeReading, Reading, Source};
    use sluice_rollout::RolloutId;
    use sluice_wire::policy::Policy;

    use super::*;
    use crate::runtime::hub::Hubs;

    /// Tells 9 of the canary's queue, or nothing ever.
    #[derive(Debug)]
    struct Told {
        answers: bool,
    }

    #[async_trait]
    impl Source for Told {
        fn name(&self) -> String {
            "told".to_owned()
        }

        async fn read(&self, asks: &[Ask], _: i64) -> Vec<Result<Reading, SourceError>> {
            asks.iter().map(|_| Ok(Reading::default())).collect()
        }

        async fn gauges(&self, _: &Ask, _: i64) -> Result<Gauges, SourceError> {
            if !self.answers {
                std::future::pending::<()>().await;
            }
            let reading = GaugeReading { arm: Arm::Canary, name: "queue".to_owned(), value: 9.0 };
            Ok(Gauges { readings: vec![reading], complaints: Vec::new() })
        }

        async fn history(&self, _: &Ask, _: i64, _: i64, _: Duration) -> Result<Vec<Reading>, SourceError> {
            Ok(Vec::new())
        }
    }

    const POLICY: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: RolloutPolicy
metadata: {name: shop, namespace: shop}
spec:
  target: {webhook: {url: 'http://127.0.0.1:1'}}
  metrics: {prometheus: {url: 'http://127.0.0.1:1', labels: {by: app, stable: v1, canary: v2}}}
  analysis: {gauges: [{name: queue, query: 'queue{app=\"{{ workload }}\"}'}]}
  steps: [{weight: 10}]
";

    fn asked(answers: bool) -> (GaugeReader, Window) {
        let policy = Policy::parse("policy.yaml", POLICY.as_bytes()).unwrap();
        let ask = Ask::of(&policy, RolloutId::new("shop", "shop", "1").unwrap()).unwrap();
        let mut reader = GaugeReader::default();
        reader.ask(&Hubs::default().of(Arc::new(Told { answers })), &ask);
        let pods = vec![PodWindow::new(Arm::Stable, "s", 10, 0), PodWindow::new(Arm::Canary, "c", 10, 0)];
        (reader, Window { step: 1, start_ms: 0, end_ms: 1, pods })
    }

    #[tokio::test]
    async fn what_came_since_the_last_window_stands_in_this_one() {
        let (mut reader, mut window) = asked(true);
        while window.pods[1].values.is_empty() {
            tokio::task::yield_now().await;
            reader.fill(&mut window);
        }
        assert_eq!(window.pods[1].values, [("queue".to_owned(), 9.0)]);
        assert_eq!(reader.fill(&mut window), Vec::<String>::new(), "nothing was asked for since");
    }

    #[tokio::test]
    async fn a_window_does_not_wait_for_gauges() {
        let (mut reader, mut window) = asked(false);
        let told = reader.fill(&mut window);
        assert!(told[0].contains("this window goes without") && window.pods[1].values.is_empty(), "{told:?}");
    }
}
