//! The API server's audit log: every write that was asked for, with its body, by whom, and the answer's code. The
//! server writes a line before it answers, so a write whose answer has been seen is in the log.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use super::KubeOptions;
use crate::server::open;

pub const FILE: &str = "audit.log";
const READS: [&str; 3] = ["get", "list", "watch"];

/// Reads the audit log.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
}

/// A place in the audit log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// One write, as the API server took it.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Who: `admin`, `sluice`, …
    pub user: String,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// Plural, such as `httproutes`.
    pub resource: String,
    /// Such as `status`; empty if none.
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// What was sent: an array for a JSON Patch, an object for the rest.
    pub body: Value,
    /// The HTTP status of the answer.
    pub code: u16,
    /// When it arrived, RFC 3339 with microseconds.
    pub at: String,
}

impl Audit {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The log's end as it is now.
    pub fn mark(&self) -> Result<Mark> {
        Ok(Mark(open(&self.path)?.metadata()?.len()))
    }

    /// All writes since a mark, refused ones included, in the order of their answers. The control plane's own are left
    /// out; so are those of other namespaces if one is named.
    pub fn since(&self, mark: Mark, namespace: Option<&str>) -> Result<Vec<Write>> {
        let writes: Vec<Write> = self.events(mark)?.into_iter().map(write).collect::<Result<_>>()?;
        let wanted = |write: &Write| {
            !READS.contains(&write.verb.as_str()) && namespace.is_none_or(|wanted| write.namespace == wanted)
        };
        Ok(writes.into_iter().filter(wanted).collect())
    }

    fn events(&self, mark: Mark) -> Result<Vec<Value>> {
        let mut file = open(&self.path)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("reading the audit log")?;
        // A line that is just being written is no line yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let event =
            |line| serde_json::from_str(line).with_context(|| format!("a line of the audit log: {line}"));
        whole.lines().map(event).collect()
    }

    /// How many requests of one user in one namespace were answered (or, of watches, begun) since a mark, reads included:
    /// [`super::KubeOptions::audit_reads`].
    pub fn requests(&self, user: &str, namespace: &str, mark: Mark) -> Result<usize> {
        let events = self.events(mark)?;
        let text =
            |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let ours = events.iter().filter(|event| {
            text(event, "/user/username").as_deref() == Some(user)
                && text(event, "/objectRef/namespace").as_deref() == Some(namespace)
        });
        // A watch has a line at its beginning and one at its end.
        Ok(ours.filter_map(|event| text(event, "/auditID")).collect::<BTreeSet<_>>().len())
    }

    /// The writes of one user in one namespace since a mark.
    pub fn by(&self, user: &str, namespace: &str, mark: Mark) -> Result<Vec<Write>> {
        let mut writes = self.since(mark, Some(namespace))?;
        writes.retain(|write| write.user == user);
        Ok(writes)
    }
}

pub fn policy(left_out: &[&str], options: &KubeOptions) -> String {
    let reads = match options.audit_reads {
        true => format!("- {{level: Metadata, users: {:?}, verbs: {READS:?}}}\n", options.users),
        false => String::new(),
    };
    format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
         - {{level: None, users: {left_out:?}}}\n\
         {reads}- {{level: None, verbs: {READS:?}}}\n\
         - {{level: Metadata, resources: [{{group: apiextensions.k8s.io}}]}}\n\
         - {{level: Request, verbs: [create, update, patch, delete, deletecollection]}}\n\
         - {{level: None}}\n"
    )
}

fn write(mut event: Value) -> Result<Write> {
    let body = event["requestObject"].take();
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Write {
        user: text("/user/username"),
        verb: text("/verb"),
        uri: text("/requestURI"),
        resource: text("/objectRef/resource"),
        subresource: text("/objectRef/subresource"),
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default().try_into()?,
        at: text("/requestReceivedTimestamp"),
        body,
    })
}
