//! The secrets that a policy names.

use super::{AlertSink, Metrics, Policy, Target};

impl Policy {
    /// Every file that holds a secret, with its field.
    pub fn secret_files(&self) -> Vec<(String, &str)> {
        let spec = &self.spec;
        let mut files: Vec<(String, Option<&String>)> = Vec::new();
        if let Metrics::Prometheus(source) = &spec.metrics {
            files.push(("spec.metrics.prometheus.tokenFile".to_owned(), source.token_file.as_ref()));
        }
        if let Target::Webhook(webhook) = &spec.target {
            files.push(("spec.target.webhook.tokenFile".to_owned(), webhook.token_file.as_ref()));
        }
        for (place, sink) in spec.alerts.iter().enumerate() {
            let (field, file) = match sink {
                AlertSink::Alertmanager(block) => ("alertmanager.tokenFile", block.token_file.as_ref()),
                AlertSink::Slack(block) => ("slack.urlFile", Some(&block.url_file)),
                AlertSink::Webhook(block) => ("webhook.tokenFile", block.token_file.as_ref()),
            };
            files.push((format!("spec.alerts[{place}].{field}"), file));
        }
        files.into_iter().filter_map(|(field, file)| Some((field, file?.as_str()))).collect()
    }
}
