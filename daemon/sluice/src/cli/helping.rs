//! What `--help` says beyond the definitions: exit codes everywhere, file formats where there are any, and of the options
//! that every command takes only those that concern it. `-h` is the short form of all that.

use clap::{Command, CommandFactory};

use super::Cli;

const EXIT_CODES: &str = "\
Exit codes:
  0  well
  1  the rollout did not go well, or what was asked is refused
  2  wrong use or input
  3  the daemon or a server could not be reached";

const JUDGE: &str = "\
WINDOWS.jsonl: a line is what one pod counted in the window that ends at `at` (seconds since
1970). Lines with one `at` are one window, both versions at once; windows follow in time.
  {\"at\":1790000000,\"step\":1,\"arm\":\"canary\",\"pod\":\"a\",\"requests\":250,\"errors\":3}
  at, step, arm, pod   needed; arm is stable or canary, step 0 history from before the rollout
  requests, errors     counts within this window, not totals
  buckets              cumulative by upper boundary in seconds, as Prometheus writes them;
                       optional: {\"0.1\":200,\"0.5\":240,\"+Inf\":250}
  values               gauges by the names of analysis.gauges: {\"cpu\":9.77}; null: there was none
  stratum, readyFor, restarts
                       route or zone; seconds since the pod became ready; restarts; optional

The answer with -o json:
  {\"decision\":\"abort|advance|hold\",\"at\":…,\"step\":…,\"windows\":…,\"evidence\":[{\"metric\":
   \"errors\",\"logAbort\":…,\"logAdvance\":…,\"ratio\":…,\"ratioLow\":…,\"ratioHigh\":…,\"needed\":…}]}
`at` is the end of the first window at which the decision stood. Windows that come late, again or
out of order change nothing: `leftOut` names their lines (on stderr without -o json, too).

Exit codes:
  0  advance or hold
  1  abort
  2  wrong use, no window at all, or a file that cannot be read as policy or windows; the line is
     named";

const VALIDATE: &str = "\
Each fault is told as file:line:column: field: what is wrong and what to do, all at once.
Folders are read with the folders in them, without what begins with a dot, as by `sluice run`.

Exit codes:
  0  all policies are sound
  1  is not used
  2  a fault (with --strict also a warning), or a file that cannot be read";

/// Needed by those that ask a daemon.
const ASKING: [&str; 5] = ["server", "token_file", "ca", "user", "namespace"];

/// The whole command line, as people see it.
pub fn command() -> Command {
    fitted(Cli::command())
}

/// Without the pages of `help` itself: for the man pages.
pub fn command_without_help() -> Command {
    fitted(Cli::command().disable_help_subcommand(true))
}

fn fitted(mut command: Command) -> Command {
    // Only now does every command have the global options.
    command.build();
    command.mut_subcommands(|verb| {
        let name = verb.get_name().to_owned();
        let told = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        let more = match name.as_str() {
            "judge" => JUDGE,
            "validate" => VALIDATE,
            _ => EXIT_CODES,
        };
        let verb = if told.is_empty() { verb } else { verb.after_long_help(format!("{told}\n\n{more}")) };
        verb.mut_args(|arg| {
            let concerns = concerns(&name, arg.get_id().as_str());
            if arg.is_global_set() && !concerns { arg.hide(true) } else { arg }
        })
    })
}

/// Whether a global option has any meaning for a command.
fn concerns(verb: &str, option: &str) -> bool {
    let is_nats = option == "servers"
        || option.starts_with("nats_")
        || option.ends_with("_file") && option != "token_file"
        || option == "inbox_prefix";
    let asks = !matches!(
        verb,
        "init" | "run" | "demo" | "validate" | "judge" | "plan" | "schema" | "completions" | "man" | "help"
    );
    match option {
        "output" => !matches!(verb, "run" | "schema" | "completions" | "man"),
        "timeout" => asks,
        option if ASKING.contains(&option) => asks,
        _ if is_nats => asks || matches!(verb, "init" | "run"),
        _ => true,
    }
}
