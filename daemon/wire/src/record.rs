//! What is kept of a rollout. Two keys and a stream: `state` at every transition, `evidence` when the verdict changes,
//! and the history. Records carry a version: an older one is migrated where it is read, an unknown newer one is left alone
//! and reported.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sluice_rollout::{Event, Reason, RolloutId, State, Timestamp};

use crate::{decisions::sum_of_bytes, policy};

/// The version of the records that this Sluice writes.
pub const VERSION: u32 = 2;

/// What makes a record of version `n` one of version `n + 1`, from version 1 on.
const MIGRATIONS: [fn(&mut Value); VERSION as usize - 1] = [from_1];

/// Why a record is not read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(
        "version {found}, and this Sluice reads up to {VERSION}: it is left alone; run the newer Sluice that wrote it"
    )]
    Newer { found: u32 },
    #[error("it cannot be read: {0}")]
    Form(#[from] serde_json::Error),
}

/// Reads a record of any version up to [`VERSION`]. The version is looked at before all else: a newer record may have the
/// same fields and mean something else. One without a version has had a single form so far.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unread> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<u32>,
    }
    let found = serde_json::from_slice::<Versioned>(bytes).ok().and_then(|found| found.version);
    match found {
        Some(found) if found > VERSION => Err(Unread::Newer { found }),
        Some(found) if found < VERSION => Ok(serde_json::from_value(migrated(bytes, found)?)?),
        Some(_) | None => Ok(serde_json::from_slice(bytes)?),
    }
}

fn migrated(bytes: &[u8], found: u32) -> Result<Value, serde_json::Error> {
    let mut record: Value = serde_json::from_slice(bytes)?;
    let first = usize::try_from(found.saturating_sub(1)).unwrap_or(0);
    MIGRATIONS.iter().skip(first).for_each(|migrate| migrate(&mut record));
    record["version"] = VERSION.into();
    Ok(record)
}

/// Version 1 did not always say up to where a step's windows had been counted: never later than the state's own time. Without
/// it a gap that is read again would count as watched twice.
fn from_1(record: &mut Value) {
    let now = record.pointer("/state/now").cloned();
    for watch in ["/state/watch", "/state/at/watch"] {
        if let (Some(Value::Object(watch)), Some(now)) = (record.pointer_mut(watch), &now) {
            watch.entry("counted_until").or_insert_with(|| now.clone());
        }
    }
}

/// What does not change while a rollout lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charter {
    pub version: u32,
    pub id: RolloutId,
    /// The release's name for people.
    pub release: Option<String>,
    pub actor: Option<String>,
    /// The version that ran before, as announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `source` and `id` of the announcement.
    pub key: String,
    /// Its place in the bus' stream, where it has one: an older announcement never begins after a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The resolved policy's bytes (JSON), and the SHA-256 of what of them may be shown: see [`Charter::shown`].
    pub policy: String,
    pub policy_hash: String,
    pub announced: Timestamp,
    /// The attempt that this one superseded before it had put back the sizes it had raised: this one does, at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<RolloutId>,
    /// How often this release was tried before: its retries share one chance of a false abort.
    #[serde(default, skip_serializing_if = "is_first")]
    pub retries: u32,
}

fn is_first(retries: &u32) -> bool {
    *retries == 0
}

impl Charter {
    /// As it may leave the daemon: the policy's secrets are hidden. Its hash is the same.
    pub fn shown(&self) -> Charter {
        Charter { policy: policy::shown(&self.policy), ..self.clone() }
    }

    /// The hash that belongs to a policy's bytes.
    pub fn hash(policy: &str) -> String {
        sum_of_bytes(policy::shown(policy).as_bytes())
    }
}

/// Who acts on a rollout. Taken by compare-and-swap with `epoch + 1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub daemon: String,
    pub incarnation: String,
    pub epoch: u64,
    /// Only daemons of this cluster take it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// Saved with compare-and-swap before anything is acknowledged or executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved {
    pub version: u32,
    pub owner: Owner,
    pub state: State,
    /// Lines of the history that were not known to be in their stream when this was saved: what a crash has kept from
    /// being written is written by whoever takes the rollout up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<HistoryLine>,
}

/// One line of the history: one transition that changed something, or one refused command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLine {
    #[schemars(with = "String")]
    pub rollout: RolloutId,
    /// Milliseconds since 1970.
    #[schemars(with = "i64")]
    pub at: Timestamp,
    pub revision: u64,
    pub phase: String,
    pub weight: f64,
    /// What caused it, one word.
    pub event: String,
    /// Why, for people; `code` for programs.
    pub reason: String,
    pub code: String,
    /// Who, where it was a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<bool>,
    /// What was asked for, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

impl HistoryLine {
    /// The line of one transition, as `state` stands after it; nobody's command, and nothing asked for.
    pub fn of(state: &State, at: Timestamp, event: &str, reason: &Reason) -> HistoryLine {
        HistoryLine {
            rollout: state.id.clone(),
            at,
            revision: state.revision,
            phase: state.phase.name().to_owned(),
            weight: state.weight.percent(),
            event: event.to_owned(),
            reason: reason.to_string(),
            code: reason.code(),
            actor: None,
            accepted: None,
            effects: Vec::new(),
        }
    }
}

/// The event's one word in the history.
pub fn event_name(event: &Event) -> &'static str {
    match event {
        Event::Requested => "requested",
        Event::GateAnswered { .. } => "gate-answered",
        Event::BaselineMeasured(_) => "baseline-measured",
        Event::WorkloadObserved { .. } => "workload-observed",
        Event::WorkloadReady { .. } => "workload-ready",
        Event::Scaled { .. } => "scaled",
        Event::TrafficObserved(_) => "traffic-observed",
        Event::TargetUnseen { .. } => "target-unseen",
        Event::Evidence { .. } => "evidence",
        Event::CanaryVanished => "canary-vanished",
        Event::Drained(_) => "drained",
        Event::EffectDone { .. } => "effect-done",
        Event::EffectFailed { .. } => "effect-failed",
        Event::TimerFired { .. } => "timer-fired",
        Event::Override(_) => "override",
        Event::Superseded { .. } => "superseded",
        Event::NeverBegan { .. } => "never-began",
        Event::Recovered { .. } => "recovered",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_rollout::{Phase, Watch};

    use super::*;

    /// A state as version 1 wrote it in the middle of a paused step, before it knew up to where windows had been counted.
    fn of_version_1() -> Value {
        let id: RolloutId = "shop/checkout@v2".parse().unwrap();
        let watch = Watch { counted_ms: 12_000, ..Watch::default() };
        let at = Box::new(Phase::Observing { step: 1, watch });
        let why = sluice_rollout::PauseReason::Policy;
        let now = Timestamp::from_millis(90_000);
        let state = State { phase: Phase::Paused { at, why }, ..State::new(id, 3, now) };
        let owner = Owner { daemon: "one".into(), incarnation: "7".into(), epoch: 3, cluster: None };
        let mut record =
            serde_json::to_value(Saved { version: 1, owner, state, untold: Vec::new() }).unwrap();
        let state = record["state"].as_object_mut().unwrap();
        state.remove("sizes_left");
        state.remove("target_unseen");
        state["at"]["watch"].as_object_mut().unwrap().remove("counted_until");
        record
    }

    #[test]
    fn a_record_of_version_1_becomes_one_of_today() {
        let saved: Saved = read(of_version_1().to_string().as_bytes()).unwrap();
        assert_eq!(saved.version, VERSION);
        let watch = saved.state.watch().unwrap();
        assert_eq!((watch.counted_ms, watch.counted_until), (12_000, Timestamp::from_millis(90_000)));
        let again: Saved = read(&serde_json::to_vec(&saved).unwrap()).unwrap();
        assert_eq!(again, saved, "what was migrated is not migrated again");
    }

    #[test]
    fn a_newer_record_is_not_read_even_if_it_could_be() {
        let mut record = of_version_1();
        record["version"] = json!(VERSION + 1);
        let unread = read::<Saved>(record.to_string().as_bytes()).unwrap_err();
        assert!(matches!(unread, Unread::Newer { found } if found == VERSION + 1), "{unread}");
        assert!(unread.to_string().contains("left alone; run the newer Sluice"), "{unread}");
    }
}
