//! `replay`: a record's decisions made again, here. A file needs no server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use sluice_wire::decisions::{
    Head, Line, MOST_LINE_BYTES, Part, RecordError, RecordPage, RecordReader, batch,
};
use sluice_wire::record::Charter;

use crate::cli::{Aim, Exit, Global, ReplayArgs, RolloutName};
use crate::client::{Client, ClientError};
use crate::replay::{Difference, Replay, ReplayReport, Stop};

use super::record::{Pages, unread};
use super::{Failure, Screen};

pub async fn perform(args: &ReplayArgs, global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let of = args.of.as_str();
    let replayed = if of == "-" {
        from_lines(Box::new(io::stdin().lock()), "stdin")?
    } else if Path::new(of).is_file() {
        let file = File::open(of)
            .map_err(|error| Failure::input(format!("{of}: {error}"), "name a file that can be read"))?;
        from_lines(Box::new(BufReader::new(file)), of)?
    } else {
        let rollout: RolloutName = of.parse().map_err(|why| {
            Failure::input(format!("{of:?} is neither a file nor a rollout: {why}"), "name one of the two")
        })?;
        from_daemon(&rollout, global).await.map_err(|failure| no_file_either(of, failure))?
    };
    say(&replayed, screen)
}

/// Whoever meant a file is told that there is none of that name.
fn no_file_either(of: &str, failure: Failure) -> Failure {
    match failure {
        Failure::Client(error) => {
            let told = format!("there is no file {of}, and of a rollout of that name: {error}");
            match error.exit() {
                Exit::Unreachable => Failure::server(told, error.remedy()),
                Exit::Well | Exit::WentBadly | Exit::WrongUse => Failure::input(told, error.remedy()),
            }
        }
        other @ (Failure::Input { .. } | Failure::Server { .. } | Failure::Output(_)) => other,
    }
}

/// What came of a record: all of it, or its first difference.
struct Replayed {
    rollout: String,
    report: Result<ReplayReport, Difference>,
}

/// A record under way.
#[derive(Default)]
struct Under {
    rollout: String,
    replay: Option<Replay>,
}

impl Under {
    fn head(&mut self, head: &Head) -> Result<(), Stop> {
        self.begin(&head.charter()?)
    }

    fn begin(&mut self, charter: &Charter) -> Result<(), Stop> {
        self.rollout = charter.id.to_string();
        self.replay = Some(Replay::new(charter)?);
        Ok(())
    }

    fn line(&mut self, line: &Line) -> Result<(), Stop> {
        self.replay.as_mut().map_or(Ok(()), |replay| replay.line(line))
    }

    fn page(&mut self, page: &RecordPage) -> Result<(), Stop> {
        if self.replay.is_none() {
            self.begin(&page.charter)?;
        }
        for raw in &page.batches {
            batch(raw.get())?.lines.iter().try_for_each(|line| self.line(line))?;
        }
        Ok(())
    }

    /// The end, or where it stopped.
    fn ended(self, stopped: Option<Stop>) -> Result<Replayed, Failure> {
        let rollout = self.rollout;
        match (stopped, self.replay) {
            (Some(Stop::Unreadable(error)), _) => Err(unread(error)),
            (Some(Stop::Different(difference)), _) => Ok(Replayed { rollout, report: Err(difference) }),
            (None, Some(replay)) => Ok(Replayed { rollout, report: Ok(replay.finish()) }),
            (None, None) => Err(unread(RecordError::Empty)),
        }
    }
}

fn from_lines(mut input: Box<dyn BufRead>, name: &str) -> Result<Replayed, Failure> {
    let mut reader = RecordReader::default();
    let mut under = Under::default();
    while let Some(text) = line(&mut input, name)? {
        let taken = match reader.read(&text) {
            Ok(Some(Part::Head(head))) => under.head(&head),
            Ok(Some(Part::Line(line))) => under.line(&line),
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(stopped) = taken {
            return under.ended(Some(stopped));
        }
    }
    reader.finish().map_err(unread)?;
    under.ended(None)
}

fn line(input: &mut Box<dyn BufRead>, name: &str) -> Result<Option<String>, Failure> {
    let mut text = String::new();
    // One byte more than a line may have: the reader of records says so.
    let read = input.by_ref().take(MOST_LINE_BYTES as u64 + 1).read_line(&mut text);
    let read = read.map_err(|error| {
        Failure::input(format!("{name}: {error}"), "a decision record is lines of JSON in UTF-8")
    })?;
    Ok((read > 0).then_some(text))
}

async fn from_daemon(rollout: &RolloutName, global: &Global) -> Result<Replayed, Failure> {
    let client = Client::connect(global).await?;
    let mut under = Under::default();
    let mut pages = Pages::new(&client, rollout.aim(global));
    while let Some(page) = pages.next().await? {
        if let Err(stopped) = under.page(&page) {
            return under.ended(Some(stopped));
        }
    }
    under.ended(None)
}

/// The analyzers' report at the end of a rollout's record; null where the record does not lead to one.
pub(super) async fn evidence(client: &Client, aim: &Aim) -> Result<Value, Failure> {
    let mut under = Under::default();
    let mut pages = Pages::new(client, aim.clone());
    loop {
        match pages.next().await {
            Ok(Some(page)) if under.page(&page).is_ok() => {}
            Ok(None) => break,
            // What does not come out the same explains nothing; an older daemon keeps no records.
            Ok(Some(_))
            | Err(Failure::Client(ClientError::Unknown { .. } | ClientError::BadInput { .. })) => {
                return Ok(Value::Null);
            }
            Err(error) => return Err(error),
        }
    }
    let report = under.replay.and_then(|replay| replay.evidence());
    Ok(report.and_then(|report| serde_json::to_value(report).ok()).unwrap_or_default())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AsJson<'a> {
    rollout: &'a str,
    /// `same`, `incomplete` or `different`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<&'a Difference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a ReplayReport>,
}

fn say(replayed: &Replayed, screen: &mut Screen) -> Result<Exit, Failure> {
    let (result, difference, report) = match &replayed.report {
        Ok(report) if report.is_complete() => ("same", None, Some(report)),
        Ok(report) => ("incomplete", None, Some(report)),
        Err(difference) => ("different", Some(difference), None),
    };
    if screen.json() {
        screen.value(&AsJson { rollout: &replayed.rollout, result, difference, report })?;
    } else {
        lines(replayed).iter().try_for_each(|line| screen.line(line))?;
    }
    Ok(if result == "same" { Exit::Well } else { Exit::WentBadly })
}

fn lines(replayed: &Replayed) -> Vec<String> {
    let rollout = &replayed.rollout;
    match &replayed.report {
        Err(difference) => {
            let mut lines = vec![format!("{rollout}: not the same"), format!("  {difference}")];
            lines.extend(difference.recorded.iter().map(|value| format!("    recorded  {value}")));
            lines.extend(difference.replayed.iter().map(|value| format!("    replayed  {value}")));
            lines
        }
        Ok(report) => {
            let verdict = if report.is_complete() {
                "the same, bit for bit"
            } else {
                "incomplete: what is there came out the same, and something is missing"
            };
            let mut lines = vec![format!("{rollout}: {verdict}"), format!("  {}", counted(report))];
            if !has_ended(report) {
                let cut = "it ends before the rollout did: the rollout ran on when it was written, or the file was cut";
                lines.push(format!("  note: {cut}"));
            }
            lines.extend(report.gaps.iter().map(|gap| format!("  missing: {}: {}", gap.place, gap.what)));
            lines.extend(report.notes.iter().map(|note| format!("  note: {}: {}", note.place, note.what)));
            if report.more > 0 {
                lines.push(format!("  and {} more", report.more));
            }
            lines
        }
    }
}

fn has_ended(report: &ReplayReport) -> bool {
    matches!(report.phase.as_deref(), Some("promoted" | "reverted" | "failed"))
}

fn counted(report: &ReplayReport) -> String {
    let some = |number: u64, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let mut text = format!(
        "{}, {}, {}",
        some(report.decisions, "decision"),
        some(report.windows, "window"),
        some(report.sessions, "start")
    );
    if report.unchecked > 0 {
        text.push_str(&format!(", {} that could not be made again", report.unchecked));
    }
    if let (Some(phase), Some(revision)) = (&report.phase, report.revision) {
        text.push_str(&format!("; ends {phase} at revision {revision}"));
    }
    if let Some(reason) = &report.reason {
        text.push_str(&format!(": {reason}"));
    }
    text
}
