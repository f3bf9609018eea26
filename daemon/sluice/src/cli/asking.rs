//! Arguments of the commands that ask, command, or check something.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use sluice_rollout::Weight;
use sluice_wire::message::Command;
use sluice_wire::units::Span;

use super::{Aim, Global, RolloutName, Selector};

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Names that daemons have (`run --daemon`): each gets a consumer of commands. This host's name if left out. Several:
    /// separated by commas.
    #[arg(long, env = "SLUICE_DAEMON", value_name = "NAME", value_delimiter = ',')]
    pub daemon: Vec<String>,
    /// Copies of each stream and bucket in a cluster of NATS servers: with 3, one server may die. What is there already is
    /// checked and not changed.
    #[arg(long, value_name = "1|3|5", default_value = "1", value_parser = replicas)]
    pub replicas: usize,
    /// How much the decision records of all rollouts may take together (`run --records`). A stream that is there already is not
    /// changed: `nats stream edit SLUICE_RECORDS --max-bytes 8GiB` does that.
    #[arg(long, env = "SLUICE_RECORDS", default_value = super::run::RECORDS, value_name = "SIZE", value_parser = super::run::size)]
    pub records: u64,
    /// The cluster of these daemons, where several share the server (`run --cluster`): it gets a consumer of announcements.
    #[arg(long, env = "SLUICE_CLUSTER", value_name = "NAME", value_parser = super::cluster)]
    pub cluster: Option<String>,
}

/// As JetStream's consensus needs them: an odd number, at most five.
fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        other => Err(format!("{other:?} copies cannot be kept: 1 (a single server), 3 or 5")),
    }
}

#[derive(Debug, Args)]
pub struct StartArgs {
    /// The policy's name: checkout, shop/checkout.
    pub rollout: RolloutName,
    /// What is released, for people: v2, an image digest. (Not to be confused with --version of sluice itself.)
    #[arg(long = "version", id = "release", value_name = "VERSION")]
    pub release: Option<String>,
    /// The version that runs now, for a policy that names ${stable}; needed until Sluice has promoted one.
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// A whole policy, in place of the stored one.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A name for this attempt; also written shop/checkout@attempt.
    #[arg(long, value_name = "NAME")]
    pub attempt: Option<String>,
    /// Follow until the end: exit 0 if promoted, 1 otherwise.
    #[arg(long, short)]
    pub wait: bool,
    /// Makes a repeat recognisable: the same id never starts a second rollout.
    #[arg(long, value_name = "TEXT")]
    pub id: Option<String>,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// checkout, shop/checkout or shop/checkout@attempt; all rollouts if left out.
    pub rollout: Option<RolloutName>,
}

#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Ends with this rollout: exit 0 if promoted, 1 otherwise. All rollouts, until Ctrl-C, if left out.
    pub rollout: Option<RolloutName>,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    pub rollout: RolloutName,
}

#[derive(Debug, Args)]
pub struct RecordArgs {
    pub rollout: RolloutName,
}

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// A file that `sluice record` wrote, - for stdin, or else a rollout: checkout, shop/checkout@v2.
    #[arg(value_name = "ROLLOUT|FILE")]
    pub of: String,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    pub rollout: RolloutName,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change"))]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub struct BackendsArgs {
    /// The Route: checkout, shop/checkout. Your own kubeconfig shows or changes it.
    #[arg(group = "where")]
    pub route: Option<String>,
    /// The Route of this policy: the daemon changes it, if you may and no rollout runs.
    #[arg(long, group = "where", requires = "change", conflicts_with_all = ["kubeconfig", "kube_context"])]
    pub policy: Option<RolloutName>,
    #[command(flatten)]
    pub because: Because,
    /// One backend: NAME=10 (a weight), NAME=5% (of it and the primary together), NAME=+15%, NAME=-3.
    #[arg(long, value_name = "NAME=VALUE", group = "change")]
    pub adjust: Option<String>,
    /// All weights 100.
    #[arg(long, group = "change")]
    pub equal: bool,
    /// All weights 0: no traffic at all.
    #[arg(long, group = "change")]
    pub zero: bool,
    /// In place of $KUBECONFIG, ~/.kube/config, or the pod's own account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
}

/// One rollout, or all of them.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub struct AllOr {
    /// checkout, shop/checkout or shop/checkout@attempt.
    #[arg(group = "which")]
    pub rollout: Option<RolloutName>,
    /// All rollouts (of the namespace, if -n is given).
    #[arg(long, group = "which")]
    pub all: bool,
    /// With --all: only those whose policy has these labels, team=payments,tier=1.
    #[arg(short = 'l', long, conflicts_with = "rollout", value_name = "LABELS")]
    pub selector: Option<Selector>,
}

/// What goes with every command of a person.
#[derive(Debug, Args)]
pub struct Because {
    /// Kept in the rollout's history.
    #[arg(long, short, default_value = "no reason given", value_name = "TEXT")]
    pub reason: String,
    /// The revision that you saw; refused if it has changed since.
    #[arg(long, value_name = "NUMBER")]
    pub revision: Option<u64>,
    /// Makes a repeat recognisable: it gets the first answer again.
    #[arg(long, value_name = "TEXT")]
    pub id: Option<String>,
    /// File with your nkey seed (SU…), or your NATS credentials file: where the daemon asks for signed commands.
    #[arg(long, env = "SLUICE_SIGN_WITH", value_name = "KEYFILE")]
    pub sign_with: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OverrideArgs {
    #[command(flatten)]
    pub which: AllOr,
    #[command(flatten)]
    pub because: Because,
}

#[derive(Debug, Args)]
pub struct SkipArgs {
    #[command(flatten)]
    pub which: AllOr,
    /// The step to go to, counted from 1, the bake after the last; over the next one if left out, but never over the bake.
    #[arg(long, value_name = "STEP")]
    pub to: Option<usize>,
    #[command(flatten)]
    pub because: Because,
}

#[derive(Debug, Args)]
pub struct UndoArgs {
    #[command(flatten)]
    pub which: AllOr,
    /// A number that `sluice revisions` lists; the latest that no rollout has put back if left out.
    #[arg(long, value_name = "NUMBER")]
    pub to_revision: Option<u64>,
    #[command(flatten)]
    pub because: Because,
}

impl UndoArgs {
    pub fn command(&self) -> Command {
        Command { to_revision: self.to_revision, ..command(&self.which, &self.because) }
    }
}

#[derive(Debug, Args)]
pub struct RevisionsArgs {
    /// The Deployment: checkout, shop/checkout.
    #[arg(value_name = "DEPLOYMENT")]
    pub workload: String,
    /// It is an OpenShift DeploymentConfig's name.
    #[arg(long)]
    pub deployment_config: bool,
    /// In place of $KUBECONFIG, ~/.kube/config, or the pod's own account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
}

#[derive(Debug, Args)]
pub struct SetWeightArgs {
    #[command(flatten)]
    pub which: AllOr,
    /// Percent: 5, 0.1, 2.5%.
    #[arg(value_name = "PERCENT", value_parser = percent)]
    pub weight: Weight,
    #[command(flatten)]
    pub because: Because,
}

#[derive(Debug, Args)]
pub struct ExtendArgs {
    #[command(flatten)]
    pub which: AllOr,
    /// 30m, 1h30m.
    #[arg(value_name = "SPAN", value_parser = Span::parse)]
    pub by: Span,
    #[command(flatten)]
    pub because: Because,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Files, or folders of .yaml, .yml and .json; - is stdin.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Warnings count as faults.
    #[arg(long)]
    pub strict: bool,
}

#[derive(Debug, Args)]
pub struct JudgeArgs {
    /// The policy whose analysis, steps and bake are used.
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// One window of one pod a line; - is stdin.
    #[arg(value_name = "WINDOWS.jsonl")]
    pub windows: PathBuf,
    /// Answer as the windows come: with -o json after every window, else whenever the decision changes. A window
    /// is judged when the first line of the next one comes, or at the end. A file is read on as it grows; after an abort nothing more is read.
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// One page a command goes there; the main one to stdout if left out.
    pub dir: Option<PathBuf>,
}

impl AllOr {
    pub fn aim(&self, global: &Global) -> Aim {
        match &self.rollout {
            Some(rollout) => rollout.aim(global),
            None => Aim::all(global.namespace.as_deref()),
        }
    }
}

impl OverrideArgs {
    pub fn command(&self) -> Command {
        command(&self.which, &self.because)
    }
}

impl SkipArgs {
    pub fn command(&self) -> Command {
        Command { to: self.to, ..command(&self.which, &self.because) }
    }
}

#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// The CustomResourceDefinition of RolloutPolicy, as JSON.
    #[arg(long)]
    pub crd: bool,
}

impl SetWeightArgs {
    pub fn command(&self) -> Command {
        Command { weight: Some(self.weight), ..command(&self.which, &self.because) }
    }
}

impl ExtendArgs {
    pub fn command(&self) -> Command {
        Command { by: Some(self.by), ..command(&self.which, &self.because) }
    }
}

fn command(which: &AllOr, because: &Because) -> Command {
    Command {
        id: because.id.clone(),
        reason: because.reason.clone(),
        revision: because.revision,
        attempt: which.rollout.as_ref().and_then(|rollout| rollout.attempt.clone()),
        selector: which.selector.clone().unwrap_or_default().0,
        ..Command::default()
    }
}

fn percent(text: &str) -> Result<Weight, String> {
    let number = text.trim().trim_end_matches('%').trim();
    let number: f64 =
        number.parse().map_err(|_| format!("{text:?} is no weight: write percent, for example 2.5"))?;
    Weight::from_percent(number).map_err(|error| error.to_string())
}
