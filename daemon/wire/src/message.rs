//! Bodies of messages: what a team announces, what a person commands, what is answered and told.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_rollout::{Action, Outcome, RolloutId, Weight};

use crate::{cloudevent::CloudEvent, signature::Signature, units::Span};

/// Types of the events that start a rollout; CDEvents' are matched without their version.
pub const ANNOUNCED: &str = "dev.sluice.release.announced";
pub const CDEVENTS: [&str; 2] = ["dev.cdevents.service.deployed", "dev.cdevents.service.upgraded"];
/// Prefix of the types of our own events, followed by the notice's name.
pub const TOLD: &str = "dev.sluice.rollout.";

/// The data of a release announcement. All of it may be left out: subject and policy say the rest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Announcement {
    /// What is released, for people: `v2`, an image digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version that runs now, where the policy names `${stable}` and no release of it was promoted by Sluice yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A name for the attempt; made from the event's source and id if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// A whole policy, in place of a stored one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Announcement {
    /// From an event's data. Errors name the field.
    pub fn read(data: &Value) -> Result<Announcement, String> {
        serde_path_to_error::deserialize(data).map_err(|error| match error.path().to_string().as_str() {
            "." => format!("data: {}", error.inner()),
            field => format!("data.{field}: {}", error.inner()),
        })
    }
}

/// The body of an override, on either door. The action stands in the subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Command {
    /// Recognises repeats; the message's own id if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Who asks, where it differs from the subject's user (a chat bot, say).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    pub reason: String,
    /// The revision that the person saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The attempt that is meant; refused if it is no longer the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// For `set-weight`: percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<f64>")]
    pub weight: Option<Weight>,
    /// For `skip`: the step to go to, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// For `extend`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Span>,
    /// For `backends`, on an OpenShift Route: `checkout-canary=+15%` (or `=10`, `=5%`, `=-3`), `equal` or `zero`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<String>,
    /// For `undo`: the revision of stable's history to go back to; the latest that no rollout has put back if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u64>,
    /// With `_all`: only rollouts whose policy has these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Where the daemon asks for signed commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
}

/// What the action of a subject asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// Something of a rollout.
    Rollout(Action),
    /// Another weight of a Route's backends, while no rollout of its policy runs.
    Backends(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error(
        "action {0:?} is unknown; it is one of promote, promote-full, pause, resume, abort, retry, skip, set-weight, extend, backends, undo, triggers-on, triggers-off"
    )]
    Unknown(String),
    #[error("{action} needs {field} in its body, for example {example}")]
    Needs { action: &'static str, field: &'static str, example: &'static str },
    #[error("a reason of {0} characters is too long; 500 are enough")]
    ReasonTooLong(usize),
}

impl Command {
    /// A CloudEvent around the command, or the command itself; no body at all is an empty one. With it the key that
    /// recognises repeats, if the sender gave one. Errors say what would be right.
    pub fn read(headers: &[(String, String)], body: &[u8]) -> Result<(Option<String>, Command), String> {
        let value = serde_json::from_slice::<Value>(body).ok();
        let enveloped = headers.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with("ce-"))
            || value.as_ref().is_some_and(|value| value.get("specversion").is_some());
        if enveloped {
            let event = CloudEvent::read(headers, body).map_err(|error| error.to_string())?;
            let key = event.key();
            let data = if event.data.is_null() { Value::Object(Default::default()) } else { event.data };
            let command = serde_json::from_value(data).map_err(|error| format!("data: {error}"))?;
            return Ok((Some(key), command));
        }
        if value.is_some_and(|value| !value.is_object()) {
            return Err(
                r#"not a command: send a JSON object like {"reason": "errors in checkout"}"#.to_owned()
            );
        }
        let command: Command = if body.is_empty() {
            Command::default()
        } else {
            serde_json::from_slice(body).map_err(|error| {
                format!(
                    r#"not a command: {error}; send JSON like {{"reason": "errors in checkout", "revision": 7}}"#
                )
            })?
        };
        Ok((command.id.clone(), command))
    }

    /// What the action of the subject asks for, with its details from the body.
    pub fn asked(&self, name: &str) -> Result<Asked, CommandError> {
        if name != "backends" {
            return self.action(name).map(Asked::Rollout);
        }
        self.check_reason()?;
        let needs = CommandError::Needs {
            action: "backends",
            field: "backends",
            example: r#"{"backends": "checkout-canary=+15%"}"#,
        };
        self.backends.clone().map(Asked::Backends).ok_or(needs)
    }

    fn check_reason(&self) -> Result<(), CommandError> {
        let length = self.reason.chars().count();
        if length > 500 { Err(CommandError::ReasonTooLong(length)) } else { Ok(()) }
    }

    /// One that a rollout's machine takes.
    pub fn action(&self, name: &str) -> Result<Action, CommandError> {
        self.check_reason()?;
        Ok(match name {
            "promote" => Action::Promote,
            "promote-full" => Action::PromoteFull,
            "pause" => Action::Pause,
            "resume" => Action::Resume,
            "abort" => Action::Abort,
            "retry" => Action::Retry,
            "skip" => Action::Skip { to: self.to },
            "set-weight" => Action::SetWeight {
                weight: self.weight.ok_or(CommandError::Needs {
                    action: "set-weight",
                    field: "weight",
                    example: r#"{"weight": 5}"#,
                })?,
                inexpressible: None,
            },
            "extend" => Action::Extend {
                by: self.by.map(|span| span.0).ok_or(CommandError::Needs {
                    action: "extend",
                    field: "by",
                    example: r#"{"by": "30m"}"#,
                })?,
            },
            "undo" => Action::Undo { to_revision: self.to_revision },
            "triggers-on" => Action::Triggers { on: true },
            "triggers-off" => Action::Triggers { on: false },
            other => return Err(CommandError::Unknown(other.chars().take(60).collect())),
        })
    }
}

/// What a command or announcement came to: what will happen now, or why it was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub accepted: bool,
    /// For people: what will happen now, or why not.
    pub message: String,
    #[schemars(with = "Option<String>")]
    pub rollout: Option<RolloutId>,
    pub revision: Option<u64>,
    pub phase: Option<String>,
    #[schemars(with = "Option<f64>")]
    pub weight: Option<Weight>,
    /// With `_all`: one answer a rollout.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub each: Vec<Answer>,
}

impl Answer {
    pub fn refused(message: impl Into<String>) -> Answer {
        Answer {
            accepted: false,
            message: message.into(),
            rollout: None,
            revision: None,
            phase: None,
            weight: None,
            each: Vec::new(),
        }
    }
}

/// The data of an event of ours: `sluice.out.<namespace>.<rollout>.<kind>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    #[schemars(with = "String")]
    pub rollout: RolloutId,
    pub revision: u64,
    pub phase: String,
    #[schemars(with = "f64")]
    pub weight: Weight,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Only with `finished`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Outcome>,
    /// The notice's own details and, where there is any, the evidence in words and figures.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_takes_its_details_from_the_body() {
        let command: Command = serde_json::from_str(r#"{"reason":"look","weight":2.5}"#).unwrap();
        assert_eq!(
            command.action("set-weight"),
            Ok(Action::SetWeight { weight: Weight::from_percent(2.5).unwrap(), inexpressible: None })
        );
        assert!(command.action("extend").unwrap_err().to_string().contains("30m"));
        assert!(command.action("explode").unwrap_err().to_string().contains("promote-full"));
        assert!(command.asked("backends").unwrap_err().to_string().contains("checkout-canary=+15%"));
        let command: Command = serde_json::from_str(r#"{"backends":"b=5%"}"#).unwrap();
        assert_eq!(command.asked("backends"), Ok(Asked::Backends("b=5%".into())));
        assert!(serde_json::from_str::<Command>(r#"{"resaon":"x"}"#).is_err());
    }
}
