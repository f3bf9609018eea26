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
            let (source, ask) = (hub.source().clone(), ask.clone());
            self.asked.spawn(async move { source.gauges(&ask, now().millis()).await });
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
