//! What `plan` can be told.

use std::path::PathBuf;

use clap::Args;
use sluice_wire::analysis::Ratio;
use sluice_wire::units::{Percent, Span};

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The policy.
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,
    /// The service's requests a second; the policy's own (`analysis.requestsPerSecond`) if left out.
    #[arg(long, short = 'r', allow_negative_numbers = true, value_name = "NUMBER", value_parser = positive)]
    pub requests_per_second: Option<f64>,
    /// Stable's share of failed requests.
    #[arg(long, default_value = "1%", value_name = "SHARE", value_parser = Percent::parse)]
    pub errors: Percent,
    /// Median and 99th percentile, if there is a histogram: 40ms,250ms.
    #[arg(long, value_name = "MEDIAN,P99", value_parser = latency)]
    pub latency: Option<(Span, Span)>,
    /// How much more counts scatter than those of independent requests; errors in bursts of five: 5.
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER", value_parser = dispersion)]
    pub dispersion: f64,
    /// Pods of the stable version.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub stable_pods: u32,
    /// Pods of the canary. Few pods differ by chance, so small differences take more of them to be seen.
    #[arg(long, default_value_t = 3, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub canary_pods: u32,
    /// Canaries that fail so many times as often.
    #[arg(long, value_delimiter = ',', default_value = "2x,3x,10x", value_name = "TIMES", value_parser = Ratio::parse)]
    pub worse: Vec<Ratio>,
    /// Canaries that take so many times as long.
    #[arg(long, value_delimiter = ',', default_value = "1.5x,2x", value_name = "TIMES", value_parser = Ratio::parse)]
    pub slower: Vec<Ratio>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| format!("{text:?} is no number above 0: write for example 200"))
}

fn dispersion(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 1.0 && number.is_finite());
    number.ok_or_else(|| format!("{text:?} is no dispersion: 1 is independent requests, bursts have more"))
}

fn latency(text: &str) -> Result<(Span, Span), String> {
    let wrong =
        || format!("{text:?} are no latencies: write median and 99th percentile, for example 40ms,250ms");
    let (median, p99) = text.split_once(',').ok_or_else(wrong)?;
    let (median, p99) = (Span::parse(median)?, Span::parse(p99)?);
    if median.0.is_zero() || p99 <= median { Err(wrong()) } else { Ok((median, p99)) }
}
