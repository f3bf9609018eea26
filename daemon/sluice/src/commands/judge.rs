//! `judge`: the analysis on a file of windows, or on a stream of them. No server is asked.

mod input;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use sluice_analyzers::{Finding, Plan};
use sluice_rollout::Timestamp;
use sluice_wire::policy::Policy;
use sluice_wire::windows::{Decision, JudgeAnswer, Judging, LeftOut, LinedWindow, Made, WindowLines};

use crate::cli::{Exit, JudgeArgs};
use crate::picture::{clean, clock};

use self::input::Input;
use super::{Failure, Screen};

/// What a line has to be like.
const EXAMPLE: &str = "a line looks like {\"at\":1790000000,\"step\":1,\"arm\":\"canary\",\"pod\":\"a\",\"requests\":250,\"errors\":3}";
/// How often a file that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub async fn perform(args: &JudgeArgs, screen: &mut Screen) -> Result<Exit, Failure> {
    let policy = policy(&args.policy)?;
    let plan = plan(&args.policy, &policy)?;
    let mut input = Input::open(&args.windows, args.follow)?;
    let mut session = Session::new(plan, input.name(), args.follow);
    session.deadlines = policy.machine().steps.iter().map(|step| step.max).collect();
    loop {
        let said = match input.line()? {
            Some(line) => session.line(&line, screen),
            None if input.grows() => {
                tokio::time::sleep(LOOK_EVERY).await;
                Ok(())
            }
            None => break,
        };
        match said {
            Err(failure) if failure.is_closed_pipe() => break,
            said => said?,
        }
        if session.is_over() {
            break;
        }
    }
    session.end(screen)
}

fn plan(path: &Path, policy: &Policy) -> Result<Plan, Failure> {
    let file = path.display().to_string();
    let remedy = format!("`sluice validate {file}` says it in full");
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

struct Session {
    judging: Judging,
    lines: WindowLines,
    source: String,
    follow: bool,
    /// What was last said, when following.
    decision: Option<Decision>,
    /// The policy's longest time in each step.
    deadlines: Vec<Duration>,
}

impl Session {
    fn new(plan: Plan, source: &str, follow: bool) -> Session {
        let (judging, lines) = (Judging::new(plan), WindowLines::default());
        let deadlines = Vec::new();
        Session { judging, lines, source: source.to_owned(), follow, decision: None, deadlines }
    }

    fn line(&mut self, line: &str, screen: &mut Screen) -> Result<(), Failure> {
        let window = self
            .lines
            .push(line.trim_end())
            .map_err(|fault| Failure::input(format!("{}: {fault}", self.source), EXAMPLE))?;
        window.map_or(Ok(()), |window| self.window(&window, screen))
    }

    fn window(&mut self, lined: &LinedWindow, screen: &mut Screen) -> Result<(), Failure> {
        let made = self.judging.window(lined).map_err(|fault| {
            let error = format!("{}: {fault}", self.source);
            Failure::input(error, "correct or remove the lines of this window")
        })?;
        match made {
            Made::Counted(_) if self.follow && self.judging.has_begun() => self.say_on(screen),
            Made::Counted(_) | Made::LeftOut(_) => Ok(()),
        }
    }

    /// For programs after every window, for people when the decision changes.
    fn say_on(&mut self, screen: &mut Screen) -> Result<(), Failure> {
        let answer = self.judging.answer();
        let changed = self.decision.replace(answer.decision) != Some(answer.decision);
        if changed || screen.json() { Ok(self.say(&answer, screen)?) } else { Ok(()) }
    }

    fn say(&self, answer: &JudgeAnswer, screen: &mut Screen) -> io::Result<()> {
        say(answer, screen)?;
        if screen.json() || answer.decision != Decision::Hold {
            return Ok(());
        }
        self.late(answer.step).iter().try_for_each(|line| screen.line(&format!("  {line}")))
    }

    /// The metrics that a whole step does not see decided, at this traffic.
    fn late(&self, step: u32) -> Vec<String> {
        let place = usize::try_from(step).ok().and_then(|step| step.checked_sub(1));
        let Some(max) = place.and_then(|place| self.deadlines.get(place)) else { return Vec::new() };
        let minutes = max.as_secs_f64() / 60.0;
        let findings = self.judging.report().map(|report| report.findings).unwrap_or_default();
        let words = |finding: &Finding| {
            format!("{}: the step's max ({minutes:.0} min) would end before that", finding.metric)
        };
        findings.iter().filter(|finding| finding.is_late(minutes)).map(words).collect()
    }

    /// Followed to an abort, nothing that comes later changes anything.
    fn is_over(&self) -> bool {
        self.follow && self.decision == Some(Decision::Abort)
    }

    /// The exit code is the decision's, whether or not somebody still reads what is said of it.
    fn end(mut self, screen: &mut Screen) -> Result<Exit, Failure> {
        if let Some(window) = self.lines.finish() {
            heard(self.window(&window, screen))?;
        }
        if !self.judging.has_begun() {
            return Err(self.nothing());
        }
        let answer = self.judging.answer();
        if !self.follow || self.decision != Some(answer.decision) {
            heard(self.say(&answer, screen).map_err(Failure::from))?;
        }
        tell_left_out(&answer);
        Ok(exit(answer.decision))
    }

    fn nothing(&self) -> Failure {
        let source = &self.source;
        if self.judging.has_history() {
            let error = format!("{source} holds history (step 0) and no window of the rollout");
            return Failure::input(error, "add the windows of its steps, which count from 1");
        }
        Failure::input(format!("{source} holds no window"), EXAMPLE)
    }
}

/// A reader that has gone (`| head`) is no fault.
fn heard(said: Result<(), Failure>) -> Result<(), Failure> {
    match said {
        Err(failure) if failure.is_closed_pipe() => Ok(()),
        said => said,
    }
}

fn exit(decision: Decision) -> Exit {
    match decision {
        Decision::Abort => Exit::WentBadly,
        Decision::Advance | Decision::Hold => Exit::Well,
    }
}

/// On stderr: the answer itself has it for programs.
fn tell_left_out(answer: &JudgeAnswer) {
    let more = answer.windows_left_out.saturating_sub(answer.left_out.len() as u64);
    for LeftOut { line, why } in &answer.left_out {
        warn(&format!("the window that begins at line {line} was left out: {why}"));
    }
    if more > 0 {
        warn(&format!("{more} more windows were left out"));
    }
}

fn warn(text: &str) {
    // Nobody is left to be told that stderr is gone.
    let _ = writeln!(io::stderr(), "warning: {}", clean(text));
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
    let windows = if answer.windows == 1 { "window" } else { "windows" };
    screen.line(&format!("{decision}{at} (step {}, {} {windows})", answer.step, answer.windows))?;
    answer.words.lines().try_for_each(|line| screen.line(&format!("  {line}")))
}
