//! One named object of the API server: read, patched and watched, each call within its own time limit.
//!
//! It knows no kind: what is in the object, and what a patch means, stands with the target or workload. It never retries.

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use json_patch::PatchOperation;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use sluice_rollout::Fence;

use super::decide::after_refusal;
use super::marks::{FENCE, Marks, annotate, guards};
use crate::error::chain;
use crate::turns::{Turn, Turns};
use crate::watches::{Found, Keep, Watches};
use crate::{Clients, TargetError};

/// The name under which our writes stand in `managedFields`.
pub(crate) const FIELD_MANAGER: &str = "sluice";

/// How often a write is tried anew at once when the object changed under it.
pub(crate) const ATTEMPTS: usize = 5;

/// The server ends a watch after this long and it is resumed; kube notices a dead one 5 s later.
pub(crate) const WATCH_SECONDS: u32 = 30;

/// After errors a watch begins anew within this.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A kind as the API server and `kubectl` name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KindName {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    /// For `kubectl get <this>`: unambiguous, with the group where several have such a kind.
    pub kubectl: &'static str,
    /// For people: `httproute`.
    pub short: &'static str,
}

impl KindName {
    fn resource(&self) -> ApiResource {
        let api_version = if self.group.is_empty() {
            self.version.into()
        } else {
            format!("{}/{}", self.group, self.version)
        };
        ApiResource {
            group: self.group.into(),
            version: self.version.into(),
            api_version,
            kind: self.kind.into(),
            plural: self.plural.into(),
        }
    }

    pub(crate) fn api(&self, client: kube::Client, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(client, namespace, &self.resource())
    }

    /// Of all namespaces.
    pub(crate) fn api_of_all(&self, client: kube::Client) -> Api<DynamicObject> {
        Api::all_with(client, &self.resource())
    }
}

/// Where an object is, in words for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub short: &'static str,
    pub kubectl: &'static str,
    pub namespace: String,
    pub name: String,
}

impl Place {
    /// In place of a name or a namespace: every one.
    pub const ALL: &'static str = "*";

    /// `kubectl`'s own words for the namespace.
    fn in_namespace(&self) -> String {
        if self.namespace == Place::ALL {
            "--all-namespaces".to_owned()
        } else {
            format!("-n {}", self.namespace)
        }
    }

    /// `httproute shop/checkout`
    pub fn title(&self) -> String {
        format!("{} {}/{}", self.short, self.namespace, self.name)
    }

    /// `httproute/shop/checkout`, as a target's key.
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.short, self.namespace, self.name)
    }

    /// The line that shows the object.
    pub fn show(&self) -> String {
        format!("kubectl -n {} get {} {} -o yaml", self.namespace, self.kubectl, self.name)
    }

    /// An object that is not as it has to be.
    pub fn unfit(&self, field: &str, why: impl std::fmt::Display) -> TargetError {
        TargetError::NotAsNeeded(format!("{}: {field}: {why} (see: {})", self.title(), self.show()))
    }
}

/// A handle on one object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    api: Api<DynamicObject>,
    pub place: Place,
    limit: Duration,
    watches: Arc<Watches>,
    turns: Arc<Turns>,
    turn: Turn,
}

/// What is to be written: operations on the object, and our annotations (`None` takes one away).
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub operations: Vec<PatchOperation>,
    pub annotations: Vec<(&'static str, Option<String>)>,
}

impl Change {
    /// With tests before it and the fence in it; empty if nothing would change.
    fn guarded(mut self, base: &DynamicObject, fence: Fence) -> Result<Vec<PatchOperation>, TargetError> {
        if let Some(found) = Marks::of(base).fence.filter(|found| *found > fence) {
            return Err(TargetError::Fenced { found, ours: fence });
        }
        if self.operations.is_empty() && annotate(base, &self.annotations).is_empty() {
            return Ok(Vec::new());
        }
        self.annotations.push((FENCE, Some(fence.to_string())));
        Ok([guards(base), self.operations, annotate(base, &self.annotations)].concat())
    }
}

/// Why a PATCH did not come about.
#[derive(Debug)]
pub(crate) enum PatchFailure {
    /// 422: a `test` failed, or validation or admission refused. The answer does not say which reliably: read and compare.
    Unprocessable(String),
    Other(TargetError),
}

impl Object {
    pub async fn connect(
        clients: &Clients,
        kind: &KindName,
        namespace: &str,
        name: &str,
    ) -> Result<Object, TargetError> {
        let place = Place {
            short: kind.short,
            kubectl: kind.kubectl,
            namespace: namespace.into(),
            name: name.into(),
        };
        Ok(Object {
            api: kind.api(clients.kube().await?, namespace),
            place,
            limit: clients.attempt(),
            watches: clients.watches(),
            turns: clients.turns(),
            turn: Turn::Usual,
        })
    }

    /// The same object, whose calls wait for no others but those that take traffic away, too.
    pub fn closing(&self) -> Object {
        Object { turn: Turn::Closing, ..self.clone() }
    }

    /// Another object of the same kind and namespace.
    pub fn sibling(&self, name: &str) -> Object {
        Object { place: Place { name: name.into(), ..self.place.clone() }, ..self.clone() }
    }

    pub async fn get(&self) -> Result<DynamicObject, TargetError> {
        let answer = self.within(self.api.get(&self.place.name)).await?;
        answer.map_err(|error| self.fault("get", error))
    }

    /// All objects of this kind in the namespace that fit.
    pub async fn list(&self, parameters: &ListParams) -> Result<Vec<DynamicObject>, TargetError> {
        let answer = self.within(self.api.list(parameters)).await?;
        answer.map(|list| list.items).map_err(|error| self.fault("list", error))
    }

    /// Makes the object, which may be there already.
    pub async fn create(&self, object: &DynamicObject) -> Result<(), TargetError> {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        match self.within(self.api.create(&parameters, object)).await? {
            Err(kube::Error::Api(status)) if status.code != 409 => {
                Err(self.fault("create", kube::Error::Api(status)))
            }
            Ok(_) | Err(kube::Error::Api(_)) => Ok(()),
            Err(error) => Err(self.fault("create", error)),
        }
    }

    /// The answer is the object as it stands after the patch.
    pub async fn patch(&self, operations: Vec<PatchOperation>) -> Result<DynamicObject, PatchFailure> {
        let patch = Patch::<()>::Json(json_patch::Patch(operations));
        let answer = self.within(self.api.patch(&self.place.name, &patch_parameters(), &patch)).await;
        self.patched(answer)
    }

    /// The same of the status, where that is a resource of its own: tests see the whole object, writes reach the status only.
    pub async fn patch_status(&self, operations: Vec<PatchOperation>) -> Result<DynamicObject, PatchFailure> {
        let patch = Patch::<()>::Json(json_patch::Patch(operations));
        let answer = self.within(self.api.patch_status(&self.place.name, &patch_parameters(), &patch)).await;
        self.patched(answer)
    }

    fn patched(
        &self,
        answer: Result<kube::Result<DynamicObject>, TargetError>,
    ) -> Result<DynamicObject, PatchFailure> {
        match answer.map_err(PatchFailure::Other)? {
            Ok(object) => Ok(object),
            Err(kube::Error::Api(status)) if status.code == 422 => {
                Err(PatchFailure::Unprocessable(words(&status)))
            }
            Err(error) => Err(PatchFailure::Other(self.fault("patch", error))),
        }
    }

    /// Reads, decides, patches under our guards, with our fence; anew at once when the object changed meanwhile. A higher fence
    /// refuses; no change writes nothing. The answer is the object as it stands then.
    pub async fn edit(
        &self,
        fence: Fence,
        change: impl Fn(&DynamicObject) -> Result<Change, TargetError> + Send + Sync,
    ) -> Result<DynamicObject, TargetError> {
        self.rewrite(|base| change(base)?.guarded(base, fence)).await
    }

    /// The same by a person, who has no fence: the one that stands there is tested and stays.
    pub async fn edit_by_hand(
        &self,
        change: impl Fn(&DynamicObject) -> Result<Vec<PatchOperation>, TargetError> + Send + Sync,
    ) -> Result<DynamicObject, TargetError> {
        let guarded = |base: &DynamicObject| {
            let operations = change(base)?;
            Ok(if operations.is_empty() { operations } else { [guards(base), operations].concat() })
        };
        self.rewrite(guarded).await
    }

    async fn rewrite(
        &self,
        operations: impl Fn(&DynamicObject) -> Result<Vec<PatchOperation>, TargetError> + Send + Sync,
    ) -> Result<DynamicObject, TargetError> {
        for _ in 0..ATTEMPTS {
            let base = self.get().await?;
            let operations = operations(&base)?;
            if operations.is_empty() {
                return Ok(base);
            }
            match self.patch(operations.clone()).await {
                Ok(after) => return Ok(after),
                Err(PatchFailure::Other(error)) => return Err(error),
                Err(PatchFailure::Unprocessable(words)) => {
                    after_refusal(&self.place, &base, &self.get().await?, &operations, &words)?;
                }
            }
        }
        Err(TargetError::Changed(self.place.title()))
    }

    /// Everything that concerns this name, from the watch that is shared with all others of this kind and namespace.
    pub fn concerning(&self, keep: Keep) -> BoxStream<'static, Result<Found, Arc<watcher::Error>>> {
        self.watches.listen(&self.api, keep, &self.place.name)
    }

    /// As [`Object::watch`], from the watch that is shared with all others of this kind and namespace: what it tells first may be
    /// some moments old, and of states that follow each other quickly only the last is told. Where only this object may be
    /// watched, it is watched alone.
    pub fn follow(&self, keep: Keep) -> BoxStream<'static, Result<Option<DynamicObject>, TargetError>> {
        let object = self.clone();
        let states = stream::unfold(Followed::Shared(self.concerning(keep)), move |mut followed| {
            let object = object.clone();
            async move {
                let state = match &mut followed {
                    Followed::Alone(states) => states.next().await?,
                    Followed::Shared(states) => match states.next().await? {
                        Ok(mut found) => Ok(found.remove(&object.place.name).map(Arc::unwrap_or_clone)),
                        Err(error) if is_forbidden(&error) => {
                            let mut alone = object.watch();
                            let first = alone.next().await?;
                            followed = Followed::Alone(alone);
                            first
                        }
                        Err(error) => Err(object.watch_fault(&error)),
                    },
                };
                Some((state, followed))
            }
        });
        states.boxed()
    }

    /// The object on every change, in a watch of its own that begins now; `None` when it is gone. Errors while it cannot be seen.
    /// Endless.
    pub fn watch(&self) -> BoxStream<'static, Result<Option<DynamicObject>, TargetError>> {
        let fields = format!("metadata.name={}", self.place.name);
        let object = self.clone();
        let events = watch(self.api.clone(), watcher::Config::default().fields(&fields));
        let states = events.scan(false, move |listed, event| {
            let state =
                one_object(listed, event).map(|state| state.map_err(|error| object.watch_fault(&error)));
            std::future::ready(Some(state))
        });
        states.filter_map(std::future::ready).boxed()
    }

    /// The limit is the call's own: its turn comes when others' calls have ended, each within its limit.
    async fn within<T>(&self, call: impl Future<Output = T>) -> Result<T, TargetError> {
        let _turn = self.turns.wait(self.turn).await;
        tokio::time::timeout(self.limit, call).await.map_err(|_| TargetError::Timeout(self.limit))
    }

    pub fn missing(&self) -> TargetError {
        TargetError::NotAsNeeded(format!(
            "{} does not exist (see: {})",
            self.place.title(),
            self.place.show()
        ))
    }

    fn fault(&self, verb: &str, error: kube::Error) -> TargetError {
        api_fault(&self.place, verb, &error).unwrap_or_else(|| self.missing())
    }

    fn watch_fault(&self, error: &watcher::Error) -> TargetError {
        watch_fault(&self.place, error)
    }
}

fn patch_parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// `None` for an object that is not there.
pub(crate) fn api_fault(place: &Place, verb: &str, error: &kube::Error) -> Option<TargetError> {
    let title = place.title();
    let kube::Error::Api(status) = error else {
        return Some(TargetError::Unreachable(format!(
            "the API server, to {verb} {title}: {}",
            chain(error)
        )));
    };
    let words = words(status);
    Some(match status.code {
        // Without details it is the kind that is not there.
        404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            TargetError::NotAsNeeded(format!(
                "{title}: the API server knows no {}: install its CRDs (see: kubectl api-resources)",
                place.kubectl
            ))
        }
        404 => return None,
        403 if by_admission(&words) => TargetError::Refused(format!(
            "{verb} of {title}: {words}; its rule lets this daemon's write not through (see: kubectl get validatingwebhookconfigurations,validatingadmissionpolicies, and {})",
            place.show()
        )),
        403 => TargetError::Refused(format!(
            "{verb} of {title}: {words}; grant it (deploy/kubernetes/rbac.yaml), and ask: kubectl {} auth can-i {verb} {}",
            place.in_namespace(),
            place.kubectl
        )),
        409 => TargetError::Changed(format!("{title}: {words}")),
        401 | 400 | 405 | 413 | 415 | 422 => {
            TargetError::Refused(format!("{verb} of {title}: {words} (see: {})", place.show()))
        }
        _ => TargetError::Unreachable(format!("the API server, to {verb} {title}: {} {words}", status.code)),
    })
}

/// Rights are enough, and somebody's rule is against it: the API server's own words for both kinds.
fn by_admission(words: &str) -> bool {
    words.contains("admission webhook") || words.contains("ValidatingAdmissionPolicy")
}

pub(crate) fn watch_fault(place: &Place, error: &watcher::Error) -> TargetError {
    let gone = || TargetError::Unreachable(format!("the watch of {}: {}", place.title(), chain(error)));
    match error {
        watcher::Error::InitialListFailed(inner) | watcher::Error::WatchStartFailed(inner) => {
            api_fault(place, "watch", inner).unwrap_or_else(gone)
        }
        _ => gone(),
    }
}

/// A watch that goes on for ever, with a backoff of 0.2 s to 5 s after errors.
pub(crate) fn watch(
    api: Api<DynamicObject>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + Send {
    let backoff = watcher::ExponentialBackoff::from(pauses());
    watcher(api, config.timeout(WATCH_SECONDS)).backoff(backoff)
}

/// Pauses of a watch after errors.
pub(crate) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
}

/// Where the news of an object come from.
enum Followed {
    Shared(BoxStream<'static, Result<Found, Arc<watcher::Error>>>),
    Alone(BoxStream<'static, Result<Option<DynamicObject>, TargetError>>),
}

/// Rights that name the object (`resourceNames`) let nobody see the others.
fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 403,
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

type Seen = watcher::Result<Option<DynamicObject>>;

/// What a watch's event says of the one object; `listed` remembers whether a listing has shown it.
fn one_object(listed: &mut bool, event: watcher::Result<watcher::Event<DynamicObject>>) -> Option<Seen> {
    match event {
        Ok(watcher::Event::Init) => {
            *listed = false;
            None
        }
        Ok(watcher::Event::InitApply(object)) => {
            *listed = true;
            Some(Ok(Some(object)))
        }
        Ok(watcher::Event::Apply(object)) => Some(Ok(Some(object))),
        Ok(watcher::Event::Delete(_)) => Some(Ok(None)),
        Ok(watcher::Event::InitDone) => (!*listed).then_some(Ok(None)),
        Err(error) => Some(Err(error)),
    }
}

fn words(status: &kube::core::Status) -> String {
    let causes =
        status.details.iter().flat_map(|details| &details.causes).map(|cause| cause.message.as_str());
    let causes: Vec<&str> =
        causes.filter(|cause| !cause.is_empty() && !status.message.contains(cause)).collect();
    if causes.is_empty() {
        status.message.clone()
    } else {
        format!("{}: {}", status.message, causes.join("; "))
    }
}
