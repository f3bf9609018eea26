//! The command line: what can be typed, and nothing of what it does (that is `commands/`).
//!
//! Raw flags become resolved settings here, once; nobody else sees raw flags. Completions, man page and help all come
//! from these definitions.

mod asking;
mod demo;
mod entry;
mod exit;
mod global;
mod habits;
mod helping;
mod name;
mod nats;
mod planning;
mod run;

use clap::{Parser, Subcommand};

pub use asking::{
    AllOr, BackendsArgs, Because, CompletionsArgs, ExplainArgs, ExtendArgs, HistoryArgs, InitArgs, JudgeArgs,
    ManArgs, OverrideArgs, RecordArgs, ReplayArgs, RevisionsArgs, SchemaArgs, SetWeightArgs, SkipArgs,
    StartArgs, StatusArgs, UndoArgs, ValidateArgs, WatchArgs,
};
pub use demo::DemoOptions;
pub use entry::{entry, log_to_stderr};
pub use exit::Exit;
pub use global::{Global, Output};
pub use helping::{command, command_without_help};
pub use name::{Aim, RolloutName, Selector};
pub use nats::NatsAccess;
pub use planning::PlanArgs;
pub use run::{BusChoice, LogFormat, RunArgs, RunOptions, SECRETS, cluster, host_name, with_records};

/// Event-driven progressive delivery.
///
/// A team announces a release; Sluice opens the gate to the new version a step at a time, watches errors and latency of
/// both versions, and either opens further or shuts the gate and puts everything back. Anybody allowed to can take over.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 well, 1 the rollout did not go well, 2 wrong use or input, 3 the daemon or a server \
                  could not be reached.\n\nExample: sluice demo\n`sluice COMMAND -h` is short, `sluice COMMAND --help` says all."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make (and check) the streams and buckets on a NATS server, under a credential that may do so.
    #[command(
        after_help = "Example: sluice init --nats nats://127.0.0.1:4222 --nats-creds-file admin.creds --daemon sluice-0"
    )]
    Init(InitArgs),
    /// Run the daemon.
    #[command(
        after_help = "Examples:\n  sluice run --policies ./policies\n  sluice run --policies /etc/sluice --nats nats://nats:4222 --listen 0.0.0.0:7878 --http-tokens /secrets/tokens"
    )]
    Run(RunArgs),
    /// Four releases on loopback in under a minute; nothing installed, nothing configured.
    #[command(after_help = "Examples:\n  sluice demo\n  sluice demo -o json")]
    Demo(DemoOptions),
    /// Announce a release, and follow it to its end with --wait (OpenShift: `oc rollout latest`).
    #[command(
        after_help = "Examples:\n  sluice start checkout --version v2 --wait\n  sluice start shop/checkout --policy checkout.yaml --attempt v2-1 --wait --timeout 1h"
    )]
    Start(StartArgs),
    /// All rollouts in a table, or one as it stands.
    #[command(after_help = "Examples:\n  sluice status\n  sluice status shop/checkout -o json")]
    Status(StatusArgs),
    /// Steps, weights and evidence, live; plain lines where the output is no terminal.
    #[command(after_help = "Examples:\n  sluice watch\n  sluice watch shop/checkout | tee checkout.log")]
    Watch(WatchArgs),
    /// What happened, oldest first: who, when, why.
    #[command(after_help = "Example: sluice history shop/checkout@v2-1")]
    History(HistoryArgs),
    /// Why it stands where it stands: the evidence for every metric, in words and bars.
    #[command(after_help = "Example: sluice explain shop/checkout")]
    Explain(ExplainArgs),
    /// The decision record: windows, events, decisions and the policy, one line each, for `sluice replay`.
    #[command(after_help = "Example: sluice record shop/checkout@v2-1 > checkout.record")]
    Record(RecordArgs),
    /// Make all decisions of a record again and compare them, bit for bit; the first difference is told.
    #[command(
        after_help = "Exit codes: 0 all is the same, 1 something came out otherwise or is missing from the record.\n\nExamples:\n  sluice replay shop/checkout@v2-1\n  sluice replay checkout.record -o json"
    )]
    Replay(ReplayArgs),
    /// Count this step as passed.
    #[command(after_help = "Example: sluice promote shop/checkout --reason 'seen by QA' --revision 7")]
    Promote(OverrideArgs),
    /// Count every step and the bake as passed.
    #[command(after_help = "Example: sluice promote-full shop/checkout --reason 'hotfix, INC-17'")]
    PromoteFull(OverrideArgs),
    /// Stay at this weight; a bad canary is aborted all the same.
    #[command(
        after_help = "Examples:\n  sluice pause shop/checkout --reason 'looking at the logs'\n  sluice pause --all -l team=payments"
    )]
    Pause(OverrideArgs),
    /// Go on after a pause.
    #[command(after_help = "Example: sluice resume shop/checkout")]
    Resume(OverrideArgs),
    /// Take the traffic away from the new version at once and put everything back.
    #[command(
        after_help = "Examples:\n  sluice abort shop/checkout --reason 'customers complain'\n  sluice abort --all --reason 'database down'"
    )]
    Abort(OverrideArgs),
    /// Begin the present wait anew, or start a rollout that has ended again.
    #[command(after_help = "Example: sluice retry shop/checkout")]
    Retry(OverrideArgs),
    /// Pass over the next step, go to a later one, or waive a gate.
    #[command(after_help = "Example: sluice skip shop/checkout --to 4")]
    Skip(SkipArgs),
    /// Stay at a weight of one's own until resumed; never above the step's.
    #[command(allow_missing_positional = true, after_help = "Example: sluice set-weight shop/checkout 2.5")]
    SetWeight(SetWeightArgs),
    /// Move the deadline of this step, or the end of the bake.
    #[command(allow_missing_positional = true, after_help = "Example: sluice extend shop/checkout 30m")]
    Extend(ExtendArgs),
    /// Check policies without any server: what is wrong, where, and what to do.
    #[command(after_help = "Example: sluice validate policies/*.yaml")]
    Validate(ValidateArgs),
    /// Run the analysis on a file of windows, without any server.
    #[command(
        after_help = "Examples:\n  sluice judge --policy checkout.yaml windows.jsonl -o json\n  exporter | sluice judge --policy checkout.yaml - --follow"
    )]
    Judge(JudgeArgs),
    /// How long each step will take on a given traffic, and what it can see by when, without any server.
    #[command(
        after_help = "Examples:\n  sluice plan checkout.yaml --requests-per-second 200 --errors 0.5%\n  sluice plan checkout.yaml -r 2000 --latency 40ms,250ms --canary-pods 2 -o json"
    )]
    Plan(PlanArgs),
    /// Put stable back to the template of a former revision, as a rollout of its own; triggers are off afterwards.
    #[command(
        after_help = "Examples:\n  sluice undo shop/checkout --reason 'INC-17'\n  sluice undo shop/checkout --to-revision 3"
    )]
    Undo(UndoArgs),
    /// Let changed images or templates start rollouts of this policy again (see `trigger` in the policy).
    #[command(after_help = "Example: sluice triggers-on shop/checkout")]
    TriggersOn(OverrideArgs),
    /// Let nothing but messages start rollouts of this policy.
    #[command(after_help = "Example: sluice triggers-off shop/checkout --reason 'release freeze'")]
    TriggersOff(OverrideArgs),
    /// The revisions of a Deployment (or DeploymentConfig): what each ran, which one runs now, and which were put back. Asks the
    /// cluster itself.
    #[command(
        after_help = "Examples:\n  sluice revisions shop/checkout\n  sluice revisions shop/checkout --deployment-config"
    )]
    Revisions(RevisionsArgs),
    /// The backends of an OpenShift Route and what their weights come to; or change them, as `oc set route-backends` does.
    #[command(
        after_help = "Examples:\n  sluice backends checkout -n shop\n  sluice backends shop/checkout --adjust checkout-canary=+10%\n  sluice backends --policy shop/checkout --adjust checkout-canary=5% --reason \"a look\""
    )]
    Backends(BackendsArgs),
    /// The JSON Schema of a policy, for editors and CI; or its kind for the Kubernetes API.
    #[command(
        after_help = "Examples:\n  sluice schema > policy.schema.json\n  sluice schema --crd | kubectl apply --filename=-"
    )]
    Schema(SchemaArgs),
    /// Completions for a shell.
    #[command(after_help = "Example: sluice completions bash > /etc/bash_completion.d/sluice")]
    Completions(CompletionsArgs),
    /// The man page, or one for every command in a folder.
    #[command(after_help = "Examples:\n  sluice man | man -l -\n  sluice man /usr/local/share/man/man1")]
    Man(ManArgs),
}

#[cfg(test)]
mod tests;
