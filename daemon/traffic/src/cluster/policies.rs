//! Policies that stand in the cluster: `RolloutPolicy` objects as they come, change and go; what daemons write into their
//! status; and Kubernetes Events about them. Which of them are in force is decided elsewhere.

use std::time::Duration;

use futures::{StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sluice_wire::API_VERSION;
use sluice_wire::policy::{PolicyStatus, crd};

use crate::kubernetes::object::{FIELD_MANAGER, KindName, Place, api_fault, watch, watch_fault};
use crate::{Clients, TargetError};

const POLICY: KindName = KindName {
    group: crd::GROUP,
    version: crd::VERSION,
    kind: "RolloutPolicy",
    plural: crd::PLURAL,
    kubectl: "rolloutpolicies.sluice.dev",
    short: "rolloutpolicy",
};

/// An event's note may have 1 kB.
const MOST_NOTE_BYTES: usize = 1_000;
/// An event's name is its policy's with a dot and a hash behind it, 253 characters at most.
const MOST_NAME_BYTES: usize = 200;

/// One policy as the API server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyObject {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    /// Without what the API server and others keep in it: as it would stand in a file.
    pub document: Value,
    pub status: PolicyStatus,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub enum PolicyNews {
    /// All that there are in one of the namespaces that are watched (nothing: in all of them).
    Listed {
        namespace: Option<String>,
        objects: Vec<PolicyObject>,
    },
    Written(Box<PolicyObject>),
    Gone {
        namespace: String,
        name: String,
    },
}

/// One Kubernetes Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about once: the same key is written once, whoever writes it.
    pub key: String,
    pub warning: bool,
    /// One word: `Reverting`.
    pub reason: String,
    pub text: String,
}

/// The policies of some namespaces, or of all.
#[derive(Debug, Clone)]
pub struct ClusterPolicies {
    clients: Clients,
    /// Empty: all.
    namespaces: Vec<String>,
    /// Who writes events: the daemon's name.
    writer: String,
}

impl ClusterPolicies {
    pub fn new(clients: Clients, namespaces: Vec<String>, writer: &str) -> ClusterPolicies {
        ClusterPolicies { clients, namespaces, writer: writer.to_owned() }
    }

    /// How many listings there will be: one a namespace that is watched.
    pub fn listings(&self) -> usize {
        self.namespaces.len().max(1)
    }

    /// Each namespace's policies, then every change. Errors while they cannot be seen. Endless.
    pub async fn watch(&self) -> Result<BoxStream<'static, Result<PolicyNews, TargetError>>, TargetError> {
        let client = self.clients.kube().await?;
        let all: Vec<Option<String>> = match self.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        Ok(stream::select_all(all.into_iter().map(|namespace| watch_in(client.clone(), namespace))).boxed())
    }

    /// Merges `status` into the object's, if it is still the same object. `None`: it is gone.
    pub async fn write_status(
        &self,
        object: &PolicyObject,
        status: &Value,
    ) -> Result<Option<PolicyObject>, TargetError> {
        let api = POLICY.api(self.clients.kube().await?, &object.namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({"metadata": {"uid": object.uid}, "status": status}));
        let written = self.within(api.patch_status(&object.name, &parameters, &patch)).await?;
        match written {
            Ok(written) => Ok(read(&written)),
            Err(error) => match api_fault(&place(&object.namespace, &object.name), "patch", &error) {
                Some(fault) => Err(fault),
                None => Ok(None),
            },
        }
    }

    /// Writes an event about a policy, once a key. (kube's own recorder would count a later event of the same reason on the
    /// first one, with the first one's text.)
    pub async fn tell(&self, object: &PolicyObject, note: &Note) -> Result<(), TargetError> {
        let api: Api<Event> = Api::namespaced(self.clients.kube().await?, &object.namespace);
        let event = event(object, note, &self.writer, MicroTime(jiff::Timestamp::now()));
        match self.within(api.create(&PostParams::default(), &event)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => {
                let place = Place {
                    short: "event",
                    kubectl: "events.events.k8s.io",
                    namespace: object.namespace.clone(),
                    name: event.metadata.name.unwrap_or_default(),
                };
                Err(api_fault(&place, "create", &error).unwrap_or_else(|| {
                    TargetError::Refused(format!("{}: the namespace is gone", place.title()))
                }))
            }
        }
    }

    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, TargetError> {
        let limit: Duration = self.clients.attempt();
        tokio::time::timeout(limit, call).await.map_err(|_| TargetError::Timeout(limit))
    }
}

fn place(namespace: &str, name: &str) -> Place {
    Place {
        short: POLICY.short,
        kubectl: POLICY.kubectl,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn watch_in(
    client: kube::Client,
    namespace: Option<String>,
) -> BoxStream<'static, Result<PolicyNews, TargetError>> {
    let api = match &namespace {
        Some(namespace) => POLICY.api(client, namespace),
        None => POLICY.api_of_all(client),
    };
    let place = place(namespace.as_deref().unwrap_or(Place::ALL), Place::ALL);
    let events = watch(api, watcher::Config::default());
    let news = events.scan(Vec::new(), move |listing, event| {
        let news = match event {
            Ok(event) => news(listing, namespace.as_deref(), event).map(Ok),
            Err(error) => Some(Err(watch_fault(&place, &error))),
        };
        std::future::ready(Some(news))
    });
    news.filter_map(std::future::ready).boxed()
}

/// `listing`: what a listing that is still coming has shown.
fn news(
    listing: &mut Vec<PolicyObject>,
    namespace: Option<&str>,
    event: watcher::Event<DynamicObject>,
) -> Option<PolicyNews> {
    match event {
        watcher::Event::Init => {
            listing.clear();
            None
        }
        watcher::Event::InitApply(object) => {
            listing.extend(read(&object));
            None
        }
        watcher::Event::InitDone => {
            let objects = std::mem::take(listing);
            Some(PolicyNews::Listed { namespace: namespace.map(str::to_owned), objects })
        }
        watcher::Event::Apply(object) => read(&object).map(|object| PolicyNews::Written(Box::new(object))),
        watcher::Event::Delete(object) => {
            read(&object).map(|gone| PolicyNews::Gone { namespace: gone.namespace, name: gone.name })
        }
    }
}

/// `None` for what has no name or namespace, which the API server does not serve.
fn read(object: &DynamicObject) -> Option<PolicyObject> {
    let metadata = &object.metadata;
    let (namespace, name) = (metadata.namespace.clone()?, metadata.name.clone()?);
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": POLICY.kind,
        "metadata": {"name": name, "namespace": namespace, "labels": metadata.labels.clone().unwrap_or_default()},
        "spec": object.data["spec"],
    });
    Some(PolicyObject {
        namespace,
        name,
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or(0),
        document,
        status: serde_json::from_value(object.data["status"].clone()).unwrap_or_default(),
    })
}

fn event(object: &PolicyObject, note: &Note, writer: &str, at: MicroTime) -> Event {
    let key = Sha256::digest(format!("{} {}", object.uid, note.key).as_bytes());
    let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Event {
        metadata: ObjectMeta {
            namespace: Some(object.namespace.clone()),
            name: Some(format!("{}.{key}", cut(&object.name, MOST_NAME_BYTES))),
            ..ObjectMeta::default()
        },
        event_time: Some(at),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        action: Some("Rollout".to_owned()),
        reason: Some(note.reason.clone()),
        note: Some(cut(&note.text, MOST_NOTE_BYTES).to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(POLICY.kind.to_owned()),
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()),
            uid: Some(object.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("sluice.dev/sluice".to_owned()),
        reporting_instance: Some(writer.to_owned()),
        ..Event::default()
    }
}

/// At a character's end.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, labels: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": API_VERSION, "kind": "RolloutPolicy",
            "metadata": {"name": name, "namespace": "shop", "uid": "u-1", "generation": 3, "labels": labels,
                "resourceVersion": "17", "managedFields": []},
            "spec": {"steps": [{"weight": 5}]},
            "status": {"observedGeneration": 2, "rollout": {"attempt": "v2", "phase": "observing",
                "weight": "5 %", "reason": "", "from": "a newer Sluice"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_policy_is_read_without_what_others_keep_in_it() {
        let policy = read(&object("checkout", json!({"team": "shop"}))).unwrap();
        assert_eq!(
            policy.document["metadata"],
            json!({"name": "checkout", "namespace": "shop", "labels": {"team": "shop"}})
        );
        assert_eq!((policy.generation, policy.status.observed_generation), (3, Some(2)));
        assert_eq!(policy.status.rollout.unwrap().phase, "observing");
    }

    #[test]
    fn a_listing_is_told_as_a_whole_once_it_is_complete() {
        let mut listing = Vec::new();
        let mut tell = |event| news(&mut listing, Some("shop"), event);
        assert_eq!(tell(watcher::Event::Init), None);
        assert_eq!(tell(watcher::Event::InitApply(object("a", json!({})))), None);
        assert_eq!(tell(watcher::Event::InitApply(object("b", json!({})))), None);
        let Some(PolicyNews::Listed { namespace, objects }) = tell(watcher::Event::InitDone) else {
            panic!("no listing");
        };
        assert_eq!((namespace.as_deref(), objects.len()), (Some("shop"), 2));
        assert!(matches!(
            tell(watcher::Event::Delete(object("a", json!({})))),
            Some(PolicyNews::Gone { .. })
        ));
    }

    #[test]
    fn an_events_name_follows_from_what_it_tells_and_its_text_is_cut() {
        let policy = read(&object("checkout", json!({}))).unwrap();
        let note = |key: &str| Note {
            key: key.to_owned(),
            warning: true,
            reason: "Reverting".to_owned(),
            text: "ü".repeat(2_000),
        };
        let made = |key: &str| event(&policy, &note(key), "left", MicroTime(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(made("v2 7").metadata.name, made("v2 7").metadata.name);
        assert_ne!(made("v2 7").metadata.name, made("v2 8").metadata.name);
        assert_eq!(made("v2 7").note.unwrap().len(), 1_000);
    }
}
