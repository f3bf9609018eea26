//! How quick Sluice is, on real servers, beside what the same servers need by themselves in the same run. Tables, never a
//! timed assertion: what a figure should be stands in docs/benchmarks.md.
//!
//! `cargo bench -p sluice-tests --features real --bench speed -- TABLE…` with the tables of [`TABLES`], all of them without
//! a name. `SLUICE_BIN` names another build of the program. A missing server fails and says what to run.

mod bench;
mod counters;
mod detection;
mod fleet;
mod flood;
mod haproxy;
mod overrides;
mod process;
mod promotion;
mod routes;
mod table;

use anyhow::{Result, bail};
use sluice_tests::story;

const TABLES: [&str; 6] = ["overrides", "haproxy", "detection", "fleet", "flood", "promotion"];

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|word| !TABLES.contains(&word.as_str())) {
        bail!("no table is called {unknown}; there are: {}", TABLES.join(", "));
    }
    print(table::machine())?;
    for name in TABLES.iter().filter(|name| asked.is_empty() || asked.iter().any(|word| word == *name)) {
        match *name {
            "overrides" => print(overrides::table())?,
            "haproxy" => print(haproxy::table())?,
            "detection" => print(detection::table())?,
            "fleet" => print(fleet::table())?,
            "flood" => print(flood::table())?,
            _ => print(async { promotion::table() })?,
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark is there to print")]
fn print(table: impl Future<Output = Result<String>> + Send + 'static) -> Result<()> {
    story(async {
        println!("{}", table.await?);
        Ok(())
    })
}
