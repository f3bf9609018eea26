//! WINDOWS.jsonl, one window of one pod a line, and the answer of `judge`.
//!
//! [`WindowLines`] takes lines one by one (so a stream works like a file) and gives whole windows: lines with one `at`
//! are one window, both versions at once. [`Judging`] carries windows to an answer. Neither reads nor writes anything;
//! every fault names its line.

use std::collections::BTreeMap;

mod judging;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_analyzers::{Arm, Bucket, PodWindow, Window};

pub use judging::{ClassName, Decision, EvidenceEntry, JudgeAnswer, Judging, LeftOut, Made, WindowFault};

/// The first window has no window before it to tell its length.
const FIRST_WINDOW_MS: i64 = 1_000;
/// A window of more pods is refused.
const MOST_PODS: usize = 100_000;

/// What one pod counted within the window that ends at `at`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowLine {
    /// Seconds since 1970.
    pub at: f64,
    /// 1-based; 0 is history from before the rollout.
    pub step: u32,
    pub arm: ArmName,
    pub pod: String,
    #[serde(default)]
    pub requests: u64,
    #[serde(default)]
    pub errors: u64,
    /// Cumulative, by upper boundary in seconds, `+Inf` included.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buckets: BTreeMap<String, u64>,
    /// Gauges; null where the source had none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Option<f64>>,
    /// Route, method or zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stratum: Option<String>,
    /// Seconds since the pod became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_for: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArmName {
    Stable,
    Canary,
}

/// A line that cannot be counted; judging stops there.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineFault {
    pub line: usize,
    pub why: String,
}

/// Lines in, windows out.
#[derive(Debug, Clone, Default)]
pub struct WindowLines {
    line: usize,
    open: Option<Open>,
    last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Open {
    first_line: usize,
    end_ms: i64,
    step: u32,
    pods: Vec<PodWindow>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    end_ms: i64,
    length_ms: i64,
    history: bool,
}

/// A window and the line that it began on.
#[derive(Debug, Clone, PartialEq)]
pub struct LinedWindow {
    pub first_line: usize,
    pub window: Window,
}

impl WindowLines {
    /// Takes the next line, empty ones included; gives the window that it closed.
    pub fn push(&mut self, text: &str) -> Result<Option<LinedWindow>, LineFault> {
        self.line += 1;
        if text.trim().is_empty() {
            return Ok(None);
        }
        let fault = |why: String| LineFault { line: self.line, why };
        let line = read(text).map_err(fault)?;
        let end_ms = end_ms(line.at).map_err(fault)?;
        let step = line.step;
        let pod = line.pod().map_err(fault)?;
        pod.check().map_err(|error| fault(error.to_string()))?;
        match &mut self.open {
            Some(open) if open.end_ms == end_ms => {
                if open.step != step {
                    let why =
                        format!("step {step} in a window of step {}: a window never spans steps", open.step);
                    return Err(LineFault { line: self.line, why });
                }
                // The same line again changes nothing; another count for the same pod is refused with the window.
                if open.pods.contains(&pod) {
                    return Ok(None);
                }
                if open.pods.len() >= MOST_PODS {
                    let why = format!("more than {MOST_PODS} pods in one window: sum them up first");
                    return Err(LineFault { line: self.line, why });
                }
                open.pods.push(pod);
                Ok(None)
            }
            Some(_) | None => {
                let closed = self.close(Some(end_ms));
                self.open = Some(Open { first_line: self.line, end_ms, step, pods: vec![pod] });
                Ok(closed)
            }
        }
    }

    /// The last window, when no more lines come.
    pub fn finish(&mut self) -> Option<LinedWindow> {
        self.close(None)
    }

    fn close(&mut self, next_end_ms: Option<i64>) -> Option<LinedWindow> {
        let open = self.open.take()?;
        let start_ms = self.start_ms(&open, next_end_ms);
        let (end_ms, step) = (open.end_ms, open.step);
        if self.last.is_none_or(|last| end_ms > last.end_ms) {
            self.last = Some(Last { end_ms, length_ms: end_ms - start_ms, history: step == 0 });
        }
        let window = Window { step, start_ms, end_ms, pods: open.pods };
        Some(LinedWindow { first_line: open.first_line, window })
    }

    /// A window begins where the one before it ended; the first one, and the first after history, is as long as its
    /// neighbour.
    fn start_ms(&self, open: &Open, next_end_ms: Option<i64>) -> i64 {
        match self.last {
            Some(last) if last.end_ms < open.end_ms && last.history == (open.step == 0) => last.end_ms,
            Some(last) if last.end_ms < open.end_ms => last.end_ms.max(open.end_ms - last.length_ms),
            Some(last) => open.end_ms - last.length_ms,
            None => {
                let length =
                    next_end_ms.map(|next| next.saturating_sub(open.end_ms)).filter(|length| *length > 0);
                open.end_ms - length.unwrap_or(FIRST_WINDOW_MS)
            }
        }
    }
}

impl WindowLine {
    fn pod(self) -> Result<PodWindow, String> {
        let arm = match self.arm {
            ArmName::Stable => Arm::Stable,
            ArmName::Canary => Arm::Canary,
        };
        let mut pod = PodWindow::new(arm, self.pod, self.requests, self.errors);
        pod.buckets = buckets(&self.buckets)?;
        pod.values = self.values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect();
        pod.stratum = self.stratum.unwrap_or_default();
        pod.restarts = self.restarts;
        pod.ready_for_ms = self.ready_for.map(ready_for_ms).transpose()?;
        Ok(pod)
    }
}

fn ready_for_ms(seconds: f64) -> Result<u64, String> {
    if seconds < 0.0 {
        return Err(format!(
            "readyFor = {seconds}: a pod is ready for 0 seconds or more; leave it out if that is unknown"
        ));
    }
    Ok((seconds * 1000.0) as u64)
}

fn buckets(written: &BTreeMap<String, u64>) -> Result<Vec<Bucket>, String> {
    let bucket = |(le, count): (&String, &u64)| match le.parse::<f64>() {
        Ok(value) if value >= 0.0 => Ok(Bucket { le: value, count: *count }),
        Ok(_) | Err(_) => {
            Err(format!("bucket {le:?} is no boundary: write seconds such as \"0.5\", and \"+Inf\""))
        }
    };
    let mut buckets: Vec<Bucket> = written.iter().map(bucket).collect::<Result<_, _>>()?;
    buckets.sort_by(|a, b| a.le.total_cmp(&b.le));
    Ok(buckets)
}

fn end_ms(at: f64) -> Result<i64, String> {
    // Milliseconds since 1970 written by mistake would be beyond the year 5000.
    if !(0.0..1e11).contains(&at) {
        return Err(format!("at = {at} is no time: write seconds since 1970, for example 1790000000"));
    }
    Ok((at * 1000.0).round() as i64)
}

fn read(text: &str) -> Result<WindowLine, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let line = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        // Faults of the line as a whole have no field.
        if matches!(field.as_str(), "." | "?") {
            plain(error.inner())
        } else {
            format!("{field}: {}", plain(error.inner()))
        }
    })?;
    reader.end().map_err(|error| format!("{}: one window of one pod a line", plain(&error)))?;
    Ok(line)
}

/// The reader's words without its own line number, which is always 1, and what would be right.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let cut = text.rfind(" at line ").unwrap_or(text.len());
    let remedy = match &text[..cut] {
        said if said.contains("expected u64") => "; a count is a whole number from 0 up",
        said if said.starts_with("EOF while parsing") => {
            "; the line is cut off: leave it out, or wait for its end"
        }
        said if said.contains("expected u32") => "; a step is a whole number, 0 for history",
        _ => "",
    };
    format!("{}{remedy} (column {})", &text[..cut], error.column())
}

#[cfg(test)]
mod tests;
