//! How quick Sluice is, on real servers, beside what the same servers need by themselves in the same run. Tables, never a
//! timed assertion: what a figure should be stands in docs/benchmarks.md.
//!
//! `cargo test -p sluice-tests --features real --test speed -- --ignored --nocapture --test-threads 1`; `SLUICE_BIN` names
//! another build of the program. A missing server fails and says what to run.

mod counters;
mod haproxy;
mod overrides;
mod promotion;
mod routes;
mod table;
mod verdicts;

use anyhow::Result;
use sluice_tests::story;

#[test]
#[ignore = "a benchmark: prints a table"]
fn override_until_the_weight_is_written() -> Result<()> {
    story(async {
        println!("{}", table::machine().await?);
        println!("{}", overrides::table().await?);
        println!("{}", haproxy::table().await?);
        Ok(())
    })
}

#[test]
#[ignore = "a benchmark: prints a table"]
fn deciding_sample_until_weight_0() -> Result<()> {
    story(async {
        println!("{}", table::machine().await?);
        println!("{}", verdicts::table().await?);
        Ok(())
    })
}

#[test]
#[ignore = "a simulation: prints a table"]
fn minutes_to_promotion() -> Result<()> {
    println!("{}", promotion::table()?);
    Ok(())
}
