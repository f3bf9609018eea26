//! See lib.rs.

fn main() -> std::process::ExitCode {
    sluice::cli::entry()
}
