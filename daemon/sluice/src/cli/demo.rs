//! What `demo` can be told.

use clap::Args;

#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// How many times as fast: 1 is what a person can follow, under a minute in all.
    #[arg(long, default_value_t = 1.0, value_parser = speed, value_name = "TIMES")]
    pub speed: f64,
    /// Requests a second that each service gets.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=5000), value_name = "NUMBER")]
    pub requests: u32,
}

impl Default for DemoOptions {
    fn default() -> Self {
        DemoOptions { speed: 1.0, requests: 200 }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is no number: write for example 2"))?;
    if (0.1..=10.0).contains(&number) { Ok(number) } else { Err("give 0.1 to 10".to_owned()) }
}
