//! A namespace of its own for a test, and a daemon's view of it with no more rights than it needs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use sluice_rig::Kube;
use sluice_rig::kube::{Crds, deployed_rights};
use sluice_rollout::{Fence, RolloutId, Weight};
use sluice_traffic::{Clients, Observed, Target, TargetError, Wanted, Workloads};
use sluice_wire::policy;
use tokio::sync::OnceCell;

/// Generous: the machine may be busy. Nothing waits this long when all is well.
pub const LIMIT: Duration = Duration::from_secs(180);

pub struct Shop {
    pub kube: &'static Kube,
    pub namespace: String,
}

impl Shop {
    pub async fn open(label: &str) -> Shop {
        let shop = Shop::bare(label).await;
        shop.apply(&deployed_rights().unwrap()).await;
        shop.may_patch("deployments.apps", true).await;
        shop
    }

    /// With the CRDs of every router that has one, and the ClusterRoles of `rbac.yaml`; the daemon may do nothing yet.
    pub async fn with_routers(label: &str) -> Shop {
        static READY: OnceCell<()> = OnceCell::const_new();
        let shop = Shop::bare(label).await;
        READY
            .get_or_init(|| async {
                shop.kube.install(Crds::Routers).await.unwrap();
                let roles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/rbac.yaml");
                shop.kube.apply("default", &std::fs::read_to_string(roles).unwrap()).await.unwrap();
            })
            .await;
        shop
    }

    /// Lets the daemon do what a ClusterRole of `rbac.yaml` says.
    pub async fn bind(&self, role: &str) {
        self.kubectl(&["create", "rolebinding", role, &format!("--clusterrole={role}"), "--user=sluice"])
            .await;
        self.kube.wait_role("sluice", &self.namespace, role).await.unwrap();
    }

    /// Waits until the daemon may do that, or may no longer.
    pub async fn may_patch(&self, resource: &str, wanted: bool) {
        self.kube.wait_rights("sluice", &self.namespace, ("patch", resource), wanted).await.unwrap();
    }

    /// Where the daemon may do nothing yet.
    pub async fn bare(label: &str) -> Shop {
        let kube = Kube::shared().await.unwrap();
        let namespace = kube.namespace(label).await.unwrap();
        Shop { kube, namespace }
    }

    /// The daemon's clients; other users are other people.
    pub fn clients(&self) -> Clients {
        Clients::new(Some(self.kube.kubeconfig("sluice"))).unwrap().with_attempt(Duration::from_secs(60))
    }

    pub async fn target(&self, target: &policy::Target) -> Arc<dyn Target> {
        sluice_traffic::connect(target, None, &policy::Workloads::default(), &self.namespace, &self.clients())
            .await
            .unwrap()
    }

    pub async fn workloads(
        &self,
        workloads: &policy::Workloads,
        target: &policy::Target,
    ) -> Arc<dyn Workloads> {
        sluice_traffic::connect_workloads(workloads, target, &self.namespace, &self.clients()).await.unwrap()
    }

    pub async fn apply(&self, yaml: &str) {
        self.kube.apply(&self.namespace, yaml).await.unwrap();
    }

    pub async fn get(&self, what: &str) -> Value {
        self.kube.get(&self.namespace, what).await.unwrap()
    }

    pub async fn kubectl(&self, args: &[&str]) -> String {
        let namespace = ["--namespace", self.namespace.as_str()];
        self.kube.kubectl(&[args, &namespace].concat()).await.unwrap()
    }

    /// A JSON merge patch by somebody else.
    pub async fn edit(&self, what: &str, merge: &str) {
        self.kubectl(&["patch", what, "--type=merge", "--patch", merge]).await;
    }
}

/// What its owner wrote: without our marks, and without what the API server keeps account of.
pub fn owners(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["managedFields", "resourceVersion", "generation"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !name.starts_with("sluice.dev/"));
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    object
}

pub fn rollout() -> RolloutId {
    RolloutId::new("shop", "checkout", "v2").unwrap()
}

pub fn weight(percent: f64) -> Weight {
    Weight::from_percent(percent).unwrap()
}

pub fn fence(text: &str) -> Fence {
    text.parse().unwrap()
}

pub fn up(percent: f64, number: &str) -> Wanted {
    Wanted { rollout: rollout(), weight: weight(percent), fence: fence(number), abort: None, rising: true }
}

pub fn abort(number: &str) -> Wanted {
    Wanted { abort: Some("errors 4 % over 1 %".into()), rising: false, ..up(0.0, number) }
}

/// Waits until the watch shows what is wanted; errors on the way are passed over.
pub async fn seen<T: std::fmt::Debug>(
    states: &mut BoxStream<'static, Result<T, TargetError>>,
    what: &str,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let look = async {
        loop {
            match states.next().await.expect("a watch is endless") {
                Ok(state) if wanted(&state) => return state,
                Ok(_) | Err(_) => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| panic!("{what} was not seen"))
}

/// Waits until the watch tells of an error.
pub async fn failed<T>(states: &mut BoxStream<'static, Result<T, TargetError>>, what: &str) -> TargetError {
    let look = async {
        loop {
            if let Err(error) = states.next().await.expect("a watch is endless") {
                return error;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| panic!("{what} was not told"))
}

pub fn has_percent(percent: f64) -> impl Fn(&Observed) -> bool {
    move |observed| observed.canary == weight(percent)
}
