//! `judge`: the analysis on a file of windows, or on a stream of them. No server is asked.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use sluice_analyzers::{Plan, Verdict};
use sluice_rollout::Timestamp;
use sluice_wire::policy::Policy;
use sluice_wire::windows::{Decision, JudgeAnswer, Judging, LinedWindow, WindowLines};

use crate::cli::{Exit, JudgeArgs};
use crate::picture::clock;

use super::{Failure, Screen};

const MOST_LINE_BYTES: u64 = 1024 * 1024;
/// How often a file that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn perform(args: &JudgeArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut session = Session::new(plan(&args.policy)?, args.follow);
    let mut input = Input::open(&args.windows, args.follow)?;
    loop {
        match input.line()? {
            Some(line) => session.line(&line, screen)?,
            None if input.grows => tokio::time::sleep(LOOK_EVERY).await,
            None => break,
        }
        if session.is_over() {
            return Ok(Exit::WentBadly);
        }
    }
    session.end(screen)
}

fn plan(path: &Path) -> Result<Plan, Failure> {
    let file = path.display().to_string();
    let remedy = format!("`sluice validate {file}` says it in full");
    let policy = policy(path)?;
    policy.plan().map_err(|error| Failure::input(format!("{file}: spec.analysis: {error}"), remedy))
}

/// The policy in a file; what is wrong with it is said as `validate` says it.
pub(super) fn policy(path: &Path) -> Result<Policy, Failure> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path)
        .map_err(|error| Failure::input(format!("{file}: {error}"), "name a policy file"))?;
    let remedy = format!("`sluice validate {file}` says it in full");
    Policy::parse(&file, &bytes).map_err(|faults| Failure::input(faults.to_string(), &remedy))
}

/// Lines of a file or of stdin.
struct Input {
    reader: Box<dyn BufRead>,
    name: String,
    /// Whether more may come after the end.
    grows: bool,
    /// The beginning of a line that is not complete yet.
    begun: String,
}

impl Input {
    fn open(path: &Path, follow: bool) -> Result<Input, Failure> {
        let name = path.display().to_string();
        if name == "-" {
            return Ok(Input {
                reader: Box::new(io::stdin().lock()),
                name: "stdin".into(),
                grows: false,
                begun: String::new(),
            });
        }
        let file = File::open(path).map_err(|error| {
            Failure::input(format!("{name}: {error}"), "name a file of windows, or - for stdin")
        })?;
        Ok(Input { reader: Box::new(BufReader::new(file)), name, grows: follow, begun: String::new() })
    }

    /// The next whole line; at the end of a file that does not grow, also one without a newline.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let wrong = |error: String, name: &str| {
            Failure::input(format!("{name}: {error}"), "windows are lines of JSON in UTF-8")
        };
        let left = MOST_LINE_BYTES.saturating_sub(self.begun.len() as u64);
        let read = self.reader.by_ref().take(left).read_line(&mut self.begun);
        read.map_err(|error| wrong(error.to_string(), &self.name))?;
        if self.begun.len() as u64 >= MOST_LINE_BYTES {
            return Err(wrong(format!("a line has more than {MOST_LINE_BYTES} bytes"), &self.name));
        }
        if self.begun.ends_with('\n') || (!self.grows && !self.begun.is_empty()) {
            return Ok(Some(std::mem::take(&mut self.begun)));
        }
        Ok(None)
    }
}

struct Session {
    judging: Judging,
    lines: WindowLines,
    follow: bool,
    /// What was last said, when following.
    verdict: Option<Verdict>,
    decision: Option<Decision>,
}

impl Session {
    fn new(plan: Plan, follow: bool) -> Session {
        Session {
            judging: Judging::new(plan),
            lines: WindowLines::default(),
            follow,
            verdict: None,
            decision: None,
        }
    }

    fn line(&mut self, line: &str, screen: &mut Screen) -> Result<(), Failure> {
        let remedy = "a line looks like {\"at\":1790000000,\"step\":1,\"arm\":\"canary\",\"pod\":\"a\",\"requests\":250,\"errors\":3}";
        let window =
            self.lines.push(line.trim_end()).map_err(|fault| Failure::input(fault.to_string(), remedy))?;
        window.map_or(Ok(()), |window| self.window(&window, screen))
    }

    fn window(&mut self, lined: &LinedWindow, screen: &mut Screen) -> Result<(), Failure> {
        let verdict = self.judging.window(&lined.window).map_err(|error| {
            let remedy = "correct or remove the lines of this window";
            Failure::input(format!("the window that begins at line {}: {error}", lined.first_line), remedy)
        })?;
        if self.follow && self.verdict.replace(verdict) != Some(verdict) {
            self.say_if_new(screen)?;
        }
        Ok(())
    }

    fn say_if_new(&mut self, screen: &mut Screen) -> io::Result<()> {
        let answer = self.judging.answer();
        if self.decision.replace(answer.decision) == Some(answer.decision) {
            return Ok(());
        }
        say(&answer, screen)
    }

    /// Followed to an abort, nothing that comes later changes anything.
    fn is_over(&self) -> bool {
        self.follow && self.decision == Some(Decision::Abort)
    }

    fn end(mut self, screen: &mut Screen) -> Result<Exit, Failure> {
        if let Some(window) = self.lines.finish() {
            self.window(&window, screen)?;
        }
        let answer = self.judging.answer();
        if self.decision != Some(answer.decision) || !self.follow {
            say(&answer, screen)?;
        }
        Ok(match answer.decision {
            Decision::Abort => Exit::WentBadly,
            Decision::Advance | Decision::Hold => Exit::Well,
        })
    }
}

fn say(answer: &JudgeAnswer, screen: &mut Screen) -> io::Result<()> {
    if screen.json() {
        return screen.value(answer);
    }
    let decision = match answer.decision {
        Decision::Abort => "abort",
        Decision::Advance => "advance",
        Decision::Hold => "hold",
    };
    let at = answer
        .at
        .map(|at| format!(" at {}", clock(Timestamp::from_millis((at * 1000.0) as i64))))
        .unwrap_or_default();
    screen.line(&format!("{decision}{at} (step {}, {} windows)", answer.step, answer.windows))?;
    answer.words.lines().try_for_each(|line| screen.line(&format!("  {line}")))
}
