//! What `demo` can be told.

use std::time::Duration;

use clap::Args;
use sluice_wire::units::Span;

#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// The least time of a step, 500ms to 10s; the bake takes a third more. A step lasts until its evidence is enough,
    /// however short this is: --requests makes that quicker.
    #[arg(long, default_value = "3s", value_parser = step, value_name = "SPAN")]
    pub step: Span,
    /// Requests a second that each service gets.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000), value_name = "NUMBER")]
    pub requests: u32,
}

impl Default for DemoOptions {
    fn default() -> Self {
        DemoOptions { step: Span::from_secs(3), requests: 200 }
    }
}

fn step(text: &str) -> Result<Span, String> {
    let span = Span::parse(text)?;
    let range = Duration::from_millis(500)..=Duration::from_secs(10);
    if range.contains(&span.0) { Ok(span) } else { Err("give 500ms to 10s".to_owned()) }
}
