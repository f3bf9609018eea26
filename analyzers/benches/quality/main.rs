//! The judge's quality as a table, beside the rules of today's tools on the same data.
//!
//! `cargo bench -p sluice-analyzers --bench quality -- [part …] [--rollouts N] [--power N] [--threads N] [--world WORD]`
//! Parts: `healthy` (false aborts over 24 h), `unmeasured` (the same without history), `limit` (exposure over Wald's bound), `troubled` (the same in worlds that are
//! not ideal), `budget` (the harm budget), `pass` (exposure until the pass, and false passes), `late` (a change in the fourth step), `latency`, `rivals` (today's rules on the same data, world by world);
//! all of them by default. Seeds are fixed: the same numbers on every machine.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a table that is printed")]

mod beside;
mod bounds;
mod chance;
mod passing;
mod rivals;
mod runs;
mod suites;
mod table;
mod world;

fn main() {
    let options = table::Options::read(std::env::args().skip(1).filter(|word| word != "--bench"));
    suites::print(&options);
}
