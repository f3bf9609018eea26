//! Alert rules and dashboard ask for metrics that the daemon really exports.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use sluice_tests::{Daemon, DaemonOptions, story};

use crate::text;

#[test]
fn alert_rules_and_dashboard_ask_for_metrics_that_exist() -> Result<()> {
    story(async {
        let daemon = Daemon::start(DaemonOptions::default()).await?;
        let known = exported(&daemon.metrics().await?);
        for file in ["prometheus/alerts.yaml", "prometheus/alerts.test.yaml", "grafana/sluice.json"] {
            let asked = mentioned(&text(file)?);
            ensure!(asked.len() > 3, "{file} asks for {asked:?} only");
            for name in asked {
                ensure!(known.contains(&name), "{file} asks for {name}; exported are {known:?}");
            }
        }
        Ok(())
    })
}

/// Series' names, by the exposition's TYPE lines.
fn exported(exposition: &str) -> BTreeSet<String> {
    let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split_once(' ')).flat_map(|(name, kind)| match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
        _ => vec![name.to_owned()],
    });
    names.collect()
}

/// Words that begin with `sluice_`.
fn mentioned(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sluice_")).map(str::to_owned).collect()
}
