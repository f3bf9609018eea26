//! Samples, and the tables that are printed of them.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

/// One row: how long the same thing took, again and again.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub what: String,
    pub took: Vec<Duration>,
}

impl Row {
    pub fn new(what: &str) -> Row {
        Row { what: what.to_owned(), took: Vec::new() }
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        let place = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(place.saturating_sub(1)).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
    }
}

/// Markdown, in milliseconds.
pub fn milliseconds(title: &str, rows: &[Row]) -> String {
    let mut text = format!(
        "\n{title}\n\n| milliseconds | samples | p50 | p99 | largest |\n| --- | ---: | ---: | ---: | ---: |\n"
    );
    for row in rows {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| row.quantile(share));
        let _ = writeln!(text, "| {} | {} | {p50:.1} | {p99:.1} | {most:.1} |", row.what, row.took.len());
    }
    text
}

/// What the figures were taken on.
pub async fn machine() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism()?;
    let model = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let load = read("/proc/loadavg");
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let program = sluice_tests::binary::sluice().await?;
    let build =
        if program.components().any(|part| part.as_os_str() == "release") { "release" } else { "dev" };
    Ok(format!(
        "{cores} cores ({model}), {memory}, shared with the servers and the load; load average {load}; sluice: {build} build"
    ))
}
