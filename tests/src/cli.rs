//! The command line, as a person or a CI job calls it.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::binary;

/// A call that takes longer is ended and is an error.
const LIMIT: Duration = Duration::from_secs(600);

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// 0 well, 1 the rollout did not go well, 2 wrong use or input, 3 not reached; -1 if a signal ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output as JSON: one value, or (one a line) the last.
    pub fn json(&self) -> Result<Value> {
        let whole = serde_json::from_str(&self.stdout);
        let last = || self.stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        whole.ok().or_else(last).with_context(|| format!("no JSON: {self:?}"))
    }

    /// Both outputs together, for people.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs `sluice` with these arguments and variables, none of the caller's own `SLUICE_…` among them.
pub async fn sluice(args: &[&str], env: &[(&str, String)]) -> Result<Output> {
    let mut command = tokio::process::Command::new(binary::sluice().await?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SLUICE_")) {
        command.env_remove(name);
    }
    command.args(args).envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let shown = || format!("sluice {}", args.join(" "));
    let output = tokio::time::timeout(LIMIT, command.output());
    let output = output
        .await
        .with_context(|| format!("{} did not end within {LIMIT:?}", shown()))?
        .with_context(shown)?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
