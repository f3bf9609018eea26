//! What each command does: one file a command (and one for all overrides, which differ in a word).
//!
//! A command asks a [`Client`], says what it learnt on a [`Screen`], and ends in an [`Exit`]. It decides nothing about a
//! rollout: that is the daemon's. Errors end here: said once, with what to do, on stderr.

mod backends;
mod completions;
mod demo;
mod explain;
mod failure;
mod history;
mod init;
mod judge;
mod man;
mod overriding;
mod plan;
mod record;
mod replay;
mod revisions;
mod run;
mod schema;
mod screen;
mod start;
mod status;
mod validate;
mod watch;

pub use failure::Failure;
pub use screen::Screen;

use crate::cli::{Cli, Exit, Verb};
use crate::client::Client;

/// Performs a command, and says what went wrong.
pub async fn dispatch(cli: Cli) -> Exit {
    let mut screen = Screen::stdout(cli.global.json());
    let json = cli.global.json();
    match perform(cli, &mut screen).await {
        Ok(exit) => exit,
        Err(failure) => failure.tell(json),
    }
}

async fn perform(cli: Cli, screen: &mut Screen) -> Result<Exit, Failure> {
    let global = cli.global;
    let connect = || Client::connect(&global);
    match cli.verb {
        Verb::Init(args) => init::perform(&args, &global, screen).await,
        Verb::Run(args) => run::perform(args, &global).await,
        Verb::Demo(options) => demo::perform(&options, screen).await,
        Verb::Start(args) => start::perform(&args, &global, &connect().await?, screen).await,
        Verb::Status(args) => status::perform(&args, &global, &connect().await?, screen).await,
        Verb::Watch(args) => watch::perform(&args, &global, &connect().await?, screen).await,
        Verb::History(args) => history::perform(&args, &global, &connect().await?, screen).await,
        Verb::Record(args) => record::perform(&args, &global, &connect().await?, screen).await,
        Verb::Replay(args) => replay::perform(&args, &global, screen).await,
        Verb::Explain(args) => explain::perform(&args, &global, &connect().await?, screen).await,
        Verb::Validate(args) => validate::perform(&args, screen),
        Verb::Judge(args) => judge::perform(&args, screen).await,
        Verb::Plan(args) => plan::perform(&args, screen),
        Verb::Revisions(args) => revisions::perform(&args, &global, screen).await,
        Verb::Backends(args) => backends::perform(&args, &global, screen).await,
        Verb::Schema(args) => schema::perform(args, screen),
        Verb::Completions(args) => completions::perform(&args, screen),
        Verb::Man(args) => man::perform(&args, screen),
        verb @ (Verb::Promote(_)
        | Verb::PromoteFull(_)
        | Verb::Pause(_)
        | Verb::Resume(_)
        | Verb::Abort(_)
        | Verb::Retry(_)
        | Verb::Skip(_)
        | Verb::SetWeight(_)
        | Verb::Undo(_)
        | Verb::TriggersOn(_)
        | Verb::TriggersOff(_)
        | Verb::Extend(_)) => overriding::perform(&verb, &global, &connect().await?, screen).await,
    }
}
