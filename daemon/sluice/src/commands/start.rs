//! `start`: announces a release; with `--wait` follows it to its end and prints every transition.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_rollout::{Outcome, Timestamp};
use sluice_wire::cloudevent::CloudEvent;
use sluice_wire::message::{ANNOUNCED, Announcement};
use sluice_wire::policy::Policy;
use sluice_wire::record::HistoryLine;
use sluice_wire::view::RolloutView;

use crate::cli::{Aim, Exit, Global, StartArgs};
use crate::client::{Client, ClientError, Following, fresh_id};
use crate::picture::clock;

use super::{Failure, Screen, history, overriding};

/// A wait without `--timeout`.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub async fn perform(
    args: &StartArgs,
    global: &Global,
    client: &Client,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let (aim, event) = announcement(args, global)?;
    let mut following = client.watch(Some(Aim { attempt: None, ..aim.clone() }));
    if args.wait {
        // Before the announcement, so that no change is missed.
        following.connected().await?;
    }
    let answer = client.announce(&aim, &event).await?;
    overriding::tell(&answer, screen)?;
    if !answer.accepted {
        return Ok(Exit::WentBadly);
    }
    if !args.wait {
        return Ok(Exit::Well);
    }
    let aim = answer.rollout.as_ref().map_or(aim, Aim::of);
    let limit = global.timeout.map_or(FOREVER, |span| span.0);
    wait(client, following, &aim, limit, screen).await
}

/// The policy is read (and checked) here, where a fault can name the file and line.
fn announcement(args: &StartArgs, global: &Global) -> Result<(Aim, CloudEvent), Failure> {
    let mut aim = args.rollout.aim(global);
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    if let Some(policy) =
        policy.as_ref().filter(|_| args.rollout.namespace.is_none() && global.namespace.is_none())
    {
        aim.namespace.clone_from(&policy.metadata.namespace);
    }
    let announcement = Announcement {
        version: args.release.clone(),
        from: args.from.clone(),
        attempt: args.attempt.clone().or_else(|| aim.attempt.clone()),
        policy: policy.map(|policy| serde_json::to_value(policy).unwrap_or(Value::Null)),
        actor: Some(global.user()),
        ..Announcement::default()
    };
    let id = args.id.clone().unwrap_or_else(fresh_id);
    let (source, subject) =
        (format!("sluice-cli/{}", global.user()), format!("{}/{}", aim.namespace, aim.name));
    let data = serde_json::to_value(announcement).unwrap_or(Value::Null);
    let event = CloudEvent::new(id, &source, ANNOUNCED, &subject, now(), data);
    Ok((Aim { attempt: None, ..aim }, event))
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::input(format!("{file}: {error}"), "name a policy file"))?;
    Policy::parse(&file, &bytes).map_err(|fault| {
        Failure::input(fault.to_string(), format!("`sluice validate {file}` says it in full"))
    })
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Until the end, or until the limit: then the rollout goes on without us.
async fn wait(
    client: &Client,
    following: Following,
    aim: &Aim,
    limit: Duration,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let Ok(ended) = tokio::time::timeout(limit, followed(client, following, aim, screen)).await else {
        let remedy = format!("it goes on; `sluice watch {aim}` shows it, `sluice abort {aim}` ends it");
        Failure::server(format!("{aim} has not ended within {limit:?}"), remedy).tell(screen.json());
        return Ok(Exit::WentBadly);
    };
    let view = ended?;
    tell_end(&view, screen)?;
    Ok(exit(&view))
}

/// Prints each new line of the history, and gives the view in which the rollout has ended.
async fn followed(
    client: &Client,
    mut following: Following,
    aim: &Aim,
    screen: &mut Screen,
) -> Result<RolloutView, Failure> {
    let mut told = Told::default();
    let mut revision = None;
    loop {
        let view = following.next().await?;
        if !aim.means(&view.rollout) {
            continue;
        }
        if revision != Some(view.revision) || view.outcome.is_some() {
            revision = Some(view.revision);
            told.catch_up(client, aim, screen).await?;
        }
        if view.outcome.is_some() {
            return Ok(view);
        }
    }
}

/// Which lines of the history were printed.
#[derive(Default)]
struct Told {
    last: Option<HistoryLine>,
}

impl Told {
    /// A history that cannot be read just now is caught up with the next change.
    async fn catch_up(&mut self, client: &Client, aim: &Aim, screen: &mut Screen) -> Result<(), Failure> {
        let lines = match client.history(aim).await {
            Ok(lines) => lines,
            Err(ClientError::Unknown { .. }) => return Ok(()),
            Err(error) if error.is_passing() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let known = self.last.as_ref().and_then(|last| lines.iter().rposition(|line| line == last));
        for line in lines.iter().skip(known.map_or(0, |known| known + 1)) {
            history::tell(line, screen)?;
        }
        self.last = lines.last().cloned().or(self.last.take());
        Ok(())
    }
}

fn tell_end(view: &RolloutView, screen: &mut Screen) -> std::io::Result<()> {
    let seconds = view.changed.since(view.started).as_secs_f64();
    if screen.json() {
        return screen.value(&json!({
            "rollout": view.rollout, "outcome": view.outcome, "weight": view.weight,
            "seconds": seconds, "reason": view.reason,
        }));
    }
    screen.line(&format!(
        "{}  {} {} after {seconds:.0} s: {}",
        clock(view.changed),
        view.rollout,
        view.phase,
        view.reason
    ))
}

/// Promoted is well, everything else is not.
pub(super) fn exit(view: &RolloutView) -> Exit {
    match view.outcome {
        Some(Outcome::Promoted) => Exit::Well,
        Some(Outcome::Reverted | Outcome::Failed) | None => Exit::WentBadly,
    }
}
