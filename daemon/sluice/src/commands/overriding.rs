//! `promote`, `pause`, `abort`, …: one message to one rollout or to all, and its answer.

use sluice_wire::message::{Answer, Command};
use sluice_wire::signature::Claim;

use crate::cli::{Aim, AllOr, Because, Exit, Global, Verb};
use crate::client::{Client, ClientError, fresh_id};
use crate::runtime::clock::now;
use crate::signing;

use super::{Failure, Screen};

pub async fn perform(
    verb: &Verb,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let Some((which, because, action, command)) = asked(verb) else {
        return Err(Failure::input("this is no override", "see `sluice help`"));
    };
    let command = signed(because, global, &which.aim(global), action, command)?;
    ask(client, &which.aim(global), action, &command, screen).await
}

/// Sends a command that has its id, and tells the answer.
pub(super) async fn ask(
    client: &Client,
    aim: &Aim,
    action: &str,
    command: &Command,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let answer = send(client, aim, action, command).await?;
    tell(&answer, screen)?;
    Ok(if answer.accepted { Exit::Well } else { Exit::WentBadly })
}

/// With an id, and with a signature if one was asked for.
pub(super) fn signed(
    because: &Because,
    global: &Global,
    aim: &Aim,
    action: &str,
    command: Command,
) -> Result<Command, Failure> {
    let command = Command { id: command.id.or_else(|| Some(fresh_id())), ..command };
    let Some(file) = &because.sign_with else { return Ok(command) };
    let user = global.user();
    let claim = Claim { user: &user, namespace: &aim.namespace, name: &aim.name, action };
    let signature = signing::sign(file, claim, now(), &command).map_err(|why| {
        Failure::input(why, "--sign-with names a file with your nkey seed; make one with `nk -gen user`")
    })?;
    Ok(Command { signature: Some(signature), ..command })
}

/// An answer that did not come names the id by which the command can be repeated without a second effect.
async fn send(client: &Client, aim: &Aim, action: &str, command: &Command) -> Result<Answer, Failure> {
    let id = command.id.as_deref().unwrap_or_default();
    match client.command(aim, action, command).await {
        Err(error @ ClientError::Silent { .. }) => {
            let remedy = format!(
                "whether it took effect is not known: look with `sluice status`, or repeat it with --id {id}, which never has a second effect"
            );
            Err(Failure::server(error.to_string(), remedy))
        }
        other => Ok(other?),
    }
}

/// The action as the subject names it, with its body.
fn asked(verb: &Verb) -> Option<(&AllOr, &Because, &'static str, Command)> {
    Some(match verb {
        Verb::Promote(args) => (&args.which, &args.because, "promote", args.command()),
        Verb::PromoteFull(args) => (&args.which, &args.because, "promote-full", args.command()),
        Verb::Pause(args) => (&args.which, &args.because, "pause", args.command()),
        Verb::Resume(args) => (&args.which, &args.because, "resume", args.command()),
        Verb::Abort(args) => (&args.which, &args.because, "abort", args.command()),
        Verb::Retry(args) => (&args.which, &args.because, "retry", args.command()),
        Verb::Skip(args) => (&args.which, &args.because, "skip", args.command()),
        Verb::SetWeight(args) => (&args.which, &args.because, "set-weight", args.command()),
        Verb::Undo(args) => (&args.which, &args.because, "undo", args.command()),
        Verb::TriggersOn(args) => (&args.which, &args.because, "triggers-on", args.command()),
        Verb::TriggersOff(args) => (&args.which, &args.because, "triggers-off", args.command()),
        Verb::Extend(args) => (&args.which, &args.because, "extend", args.command()),
        Verb::Init(_)
        | Verb::Run(_)
        | Verb::Demo(_)
        | Verb::Start(_)
        | Verb::Status(_)
        | Verb::Watch(_)
        | Verb::History(_)
        | Verb::Explain(_)
        | Verb::Validate(_)
        | Verb::Judge(_)
        | Verb::Schema(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::Plan(_)
        | Verb::Record(_)
        | Verb::Replay(_)
        | Verb::Revisions(_)
        | Verb::Backends(_) => return None,
    })
}

/// An answer, and with `--all` one for each rollout.
pub(super) fn tell(answer: &Answer, screen: &mut Screen) -> std::io::Result<()> {
    if screen.json() {
        return screen.value(answer);
    }
    screen.line(&words(answer))?;
    answer.each.iter().try_for_each(|one| screen.line(&format!("  {}", words(one))))
}

fn words(answer: &Answer) -> String {
    let name = answer
        .rollout
        .as_ref()
        .map(ToString::to_string)
        .filter(|name| !answer.message.contains(name.as_str()));
    let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
    let refused = if answer.accepted || answer.message.starts_with("refused") { "" } else { "refused: " };
    format!("{name}{refused}{}", answer.message)
}
