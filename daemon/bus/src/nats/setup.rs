//! Streams and buckets on the server: makes what is missing, and compares what is there, field by field. A server may
//! take a configuration and silently drop a part of it, so what it says it has is compared, never what was asked.
//!
//! Larger limits than ours are somebody's decision and stay; nothing that exists is changed or deleted here.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use serde_json::json;

use super::config::NatsConfig;
use super::core::{Core, Fault};
use crate::plan::{ANSWERS_BUCKET, STATE_BUCKET, Stream};
use crate::{BusError, Limits, MOST_VALUE_BYTES};

/// The oldest server whose streams and consumers do what is needed.
const OLDEST: (i64, i64, i64) = (2, 9, 0);

/// Makes what is missing and checks all; says what was made.
pub(super) async fn streams(core: &Core) -> Result<Vec<String>, BusError> {
    check_version(core)?;
    let mut made = Vec::new();
    for wanted in wanted(&core.config) {
        let what = format!("stream {}", wanted.name);
        let info = match look(core, &wanted.name).await.map_err(|fault| fault.about(&what))? {
            Some(info) => info,
            None => {
                made.push(format!("made {what} for {}", wanted.subjects.join(", ")));
                create(core, &wanted).await.map_err(|fault| fault.about(&what))?
            }
        };
        check(&what, &wanted, &info.config)?;
    }
    Ok(made)
}

fn check_version(core: &Core) -> Result<(), BusError> {
    let (major, minor, patch) = OLDEST;
    if core.client.is_server_compatible(major, minor, patch) {
        return Ok(());
    }
    let version = core.client.server_info().version;
    let why = format!("it is version {version}; Sluice needs {major}.{minor} or newer");
    Err(BusError::Setup { what: "the NATS server".into(), why })
}

async fn look(core: &Core, name: &str) -> Result<Option<Info>, Fault> {
    match core.ask(&format!("STREAM.INFO.{name}"), &json!({})).await {
        Ok(info) => Ok(Some(info)),
        Err(Fault::JetStream(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn create(core: &Core, wanted: &Config) -> Result<Info, Fault> {
    core.ask(&format!("STREAM.CREATE.{}", wanted.name), wanted).await
}

fn wanted(config: &NatsConfig) -> Vec<Config> {
    let streams = Stream::ALL.into_iter().map(|stream| stream_config(stream, &config.limits));
    let all = streams.chain([state_bucket(&config.limits), answers_bucket(&config.limits)]);
    all.map(|stream| Config { num_replicas: config.replicas, ..stream }).collect()
}

fn stream_config(stream: Stream, limits: &Limits) -> Config {
    let own = limits.of(stream);
    let per_subject = match stream {
        Stream::Log => whole(limits.log_lines),
        Stream::Records => whole(limits.record_batches),
        Stream::Events | Stream::Overrides | Stream::Out | Stream::Dead => -1,
    };
    Config {
        name: stream.name().to_owned(),
        subjects: vec![stream.pattern()],
        max_age: own.age,
        max_bytes: whole(own.bytes),
        duplicate_window: own.duplicates,
        max_messages_per_subject: per_subject,
        description: Some(describe(stream).to_owned()),
        ..unlimited()
    }
}

fn describe(stream: Stream) -> &'static str {
    match stream {
        Stream::Events => "Sluice: releases announced by teams",
        Stream::Overrides => "Sluice: commands of people, kept until a daemon has read them",
        Stream::Out => "Sluice: what happened",
        Stream::Dead => "Sluice: messages that could not be read, with the reason",
        Stream::Log => "Sluice: histories of rollouts",
        Stream::Records => "Sluice: decision records, for replay",
    }
}

/// Full, it refuses; state is never dropped to make room for other state.
fn state_bucket(limits: &Limits) -> Config {
    Config {
        max_bytes: whole(limits.state_bytes),
        discard: DiscardPolicy::New,
        description: Some("Sluice: state of rollouts".into()),
        ..bucket(STATE_BUCKET)
    }
}

fn answers_bucket(limits: &Limits) -> Config {
    Config {
        max_bytes: whole(limits.answers_bytes),
        max_age: limits.answers_age,
        description: Some("Sluice: answers to stored commands".into()),
        ..bucket(ANSWERS_BUCKET)
    }
}

/// As a key-value bucket of NATS is, so that `nats kv` shows it. The client's own function for it fails on 2.9.
fn bucket(name: &str) -> Config {
    Config {
        name: stream_of_bucket(name),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        // Above our own limit, which has the better error.
        max_message_size: i32::try_from(MOST_VALUE_BYTES * 2).unwrap_or(i32::MAX),
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..unlimited()
    }
}

pub(super) fn stream_of_bucket(bucket: &str) -> String {
    format!("KV_{bucket}")
}

fn unlimited() -> Config {
    Config {
        max_messages: -1,
        max_consumers: -1,
        max_message_size: -1,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        ..Config::default()
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Refuses a stream that would break a promise, naming the first few fields.
fn check(what: &str, wanted: &Config, found: &Config) -> Result<(), BusError> {
    let faults = faults(wanted, found);
    if faults.is_empty() {
        return Ok(());
    }
    let why = format!(
        "{}; change it with `nats stream edit {}`, or delete it and run `sluice init`",
        faults.join(", "),
        wanted.name
    );
    Err(BusError::Setup { what: what.to_owned(), why })
}

fn faults(wanted: &Config, found: &Config) -> Vec<String> {
    let at_least = |wanted: i64, found: i64| found <= 0 || (wanted > 0 && found >= wanted);
    let age_fits = found.max_age.is_zero() || found.max_age >= wanted.max_age && !wanted.max_age.is_zero();
    let exact = |least: bool, name: &str, wanted: String, found: String| {
        (!least).then(|| format!("{name} is {found}, wanted {wanted}"))
    };
    let same = |name: &str, wanted: String, found: String| exact(wanted == found, name, wanted, found);
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    [
        exact(
            wanted.subjects.iter().all(|s| found.subjects.contains(s)),
            "subjects",
            text(&wanted.subjects),
            text(&found.subjects),
        ),
        same("retention", text(&wanted.retention), text(&found.retention)),
        same("discard", text(&wanted.discard), text(&found.discard)),
        same("storage", text(&wanted.storage), text(&found.storage)),
        same("no_ack", text(&wanted.no_ack), text(&found.no_ack)),
        same("sealed", text(&wanted.sealed), text(&found.sealed)),
        same("deny_purge", text(&wanted.deny_purge), text(&found.deny_purge)),
        same("mirror", text(&wanted.mirror.is_some()), text(&found.mirror.is_some())),
        exact(age_fits, "max_age", text(&wanted.max_age), text(&found.max_age)),
        exact(
            at_least(wanted.max_bytes, found.max_bytes),
            "max_bytes",
            text(&wanted.max_bytes),
            text(&found.max_bytes),
        ),
        exact(
            at_least(wanted.max_messages, found.max_messages),
            "max_msgs",
            text(&wanted.max_messages),
            text(&found.max_messages),
        ),
        exact(
            at_least(wanted.max_messages_per_subject, found.max_messages_per_subject),
            "max_msgs_per_subject",
            text(&wanted.max_messages_per_subject),
            text(&found.max_messages_per_subject),
        ),
        exact(
            at_least(i64::from(wanted.max_message_size), i64::from(found.max_message_size)),
            "max_msg_size",
            text(&wanted.max_message_size),
            text(&found.max_message_size),
        ),
        exact(
            found.duplicate_window >= wanted.duplicate_window,
            "duplicate_window",
            text(&wanted.duplicate_window),
            text(&found.duplicate_window),
        ),
        exact(
            found.num_replicas >= wanted.num_replicas,
            "num_replicas",
            text(&wanted.num_replicas),
            text(&found.num_replicas),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn events() -> Config {
        Config { num_replicas: 1, ..stream_config(Stream::Events, &Limits::default()) }
    }

    #[test]
    fn larger_limits_are_somebodys_decision_and_smaller_ones_a_fault() {
        let larger = Config { max_bytes: -1, max_age: Duration::ZERO, num_replicas: 3, ..events() };
        assert_eq!(faults(&events(), &larger), Vec::<String>::new());
        let smaller = Config { max_bytes: 10, max_age: Duration::from_secs(1), max_messages: 5, ..events() };
        let found = faults(&events(), &smaller).join("\n");
        for field in ["max_bytes is 10", "max_age is 1s, wanted 259200s", "max_msgs is 5, wanted -1"] {
            assert!(found.contains(field), "{field} is missing in {found}");
        }
    }

    #[test]
    fn what_would_lose_messages_is_a_fault() {
        for broken in [
            Config { retention: RetentionPolicy::WorkQueue, ..events() },
            Config { subjects: vec!["sluice.event.shop.>".into()], ..events() },
            Config { storage: StorageType::Memory, ..events() },
            Config { duplicate_window: Duration::ZERO, ..events() },
            Config { no_ack: true, ..events() },
        ] {
            assert_eq!(faults(&events(), &broken).len(), 1, "{broken:?}");
        }
    }
}
