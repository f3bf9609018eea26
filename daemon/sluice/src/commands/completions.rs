//! `completions`: what a shell needs to complete our commands.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, Exit};

use super::{Failure, Screen};

pub fn perform(args: &CompletionsArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sluice", &mut script);
    screen.text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Well)
}
