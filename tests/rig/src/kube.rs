//! A whole Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and kwok, which
//! plays one node and its pods. Real are the API, its validation and permissions, the controllers' work and the audit
//! log; pods are only objects whose status moves (see [`stages`] for those that never or slowly become ready).
//!
//! It is ready in about three seconds and takes about 520 MB, so the tests of one binary share one
//! ([`Kube::shared`]) and take a namespace each ([`Kube::namespace`]).

mod audit;
mod plane;
pub mod stages;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::folder::Folder;
use crate::server::{Server, output};
use crate::{binaries, http, wait};

pub use audit::{Audit, Mark, Write};
pub use plane::POD_CIDR;
pub use watch::{Seen, Watch};

const INSTALLED_WITHIN: Duration = Duration::from_secs(300);
/// The API server acts on a change of rights when its cache has it: usually a few milliseconds later.
const GRANTED_WITHIN: Duration = Duration::from_secs(60);

/// Groups of CRDs that `tests/servers/install` has copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crds {
    /// Gateway API's standard channel: HTTPRoute, GRPCRoute, Gateway, GatewayClass, …
    GatewayStandard,
    /// Gateway API's experimental channel, which has the same kinds with more fields. One channel per control plane.
    GatewayExperimental,
    /// VirtualService, DestinationRule and the rest of Istio.
    Istio,
    /// HTTPProxy and the rest of Contour.
    Contour,
    /// One CRD each of OpenShift (Route, DeploymentConfig), Knative, Traefik, SMI, APISIX, Gloo, Kuma and Emissary.
    Routers,
    /// Argo's Rollout, and the kinds that its controller waits for.
    ArgoRollouts,
}

impl Crds {
    fn path(self) -> &'static str {
        match self {
            Self::GatewayStandard => "crds/gateway-api-standard",
            Self::GatewayExperimental => "crds/gateway-api-experimental",
            Self::Istio => "crds/istio.yaml",
            Self::Contour => "crds/contour.yaml",
            Self::Routers => "crds/routers",
            Self::ArgoRollouts => "crds/argo-rollouts",
        }
    }
}

/// How to start it.
#[derive(Debug, Clone)]
pub struct KubeOptions {
    /// Users beside `admin`. They may do nothing until a test gives them a role: [`Kube::allow_everything`], or RBAC
    /// objects of its own. Each has a kubeconfig ([`Kube::kubeconfig`]) and stands in the audit log under its name.
    pub users: Vec<String>,
    /// Installed before `start` comes back.
    pub crds: Vec<Crds>,
    /// Reads of those users stand in the audit log, too: see [`Audit::requests`].
    pub audit_reads: bool,
}

impl Default for KubeOptions {
    fn default() -> Self {
        let users = ["sluice", "gitops", "person"].map(String::from).to_vec();
        Self { users, crds: Vec::new(), audit_reads: false }
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct Kube {
    pub etcd: Server,
    /// kube-apiserver; killed and started again it keeps its port.
    pub api: Server,
    pub controllers: Server,
    pub scheduler: Server,
    /// kwok, the fake kubelet.
    pub kubelet: Server,
    /// Which writes were asked for, by whom, and what came of them.
    pub audit: Audit,
    url: String,
    kubectl: PathBuf,
    folder: Folder,
    namespaces: AtomicU32,
    _ports: plane::Ports,
}

impl Kube {
    /// The user whose kubeconfig this crate uses itself; may do everything.
    pub const ADMIN: &'static str = "admin";

    /// Starts all of it, makes the node, installs the CRDs.
    pub async fn start(options: KubeOptions) -> Result<Self> {
        let kube = plane::start(&options).await?;
        futures::future::try_join_all(options.crds.into_iter().map(|crds| kube.install(crds))).await?;
        Ok(kube)
    }

    /// The one control plane of this test binary, with the default users and the CRDs of Gateway API (standard), Istio
    /// and Contour. It ends with the process.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Kube> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| {
                let crds = vec![Crds::GatewayStandard, Crds::Istio, Crds::Contour];
                Self::start(KubeOptions { crds, audit_reads: true, ..KubeOptions::default() })
            })
            .await
    }

    /// `https://127.0.0.1:<port>`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The kubeconfig of a user: `admin` or one of [`KubeOptions::users`].
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.path().join(plane::kubeconfig_name(user))
    }

    /// The bearer token of a user.
    pub fn token(&self, user: &str) -> String {
        plane::token(user)
    }

    /// Makes a namespace that no other test has; its name begins with `label`.
    pub async fn namespace(&self, label: &str) -> Result<String> {
        let name = format!("{label}-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]).await?;
        Ok(name)
    }

    /// Runs kubectl as `admin` and gives what it wrote.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_as(Self::ADMIN, args, None).await
    }

    /// Runs kubectl as somebody, with something on its standard input.
    pub async fn kubectl_as(&self, user: &str, args: &[&str], input: Option<&str>) -> Result<String> {
        let config = format!("--kubeconfig={}", self.kubeconfig(user).display());
        let cache = format!("--cache-dir={}", self.folder.path().join("kubectl-cache").display());
        let all: Vec<&str> =
            [config.as_str(), cache.as_str()].into_iter().chain(args.iter().copied()).collect();
        output(&self.kubectl, &all, input).await
    }

    /// Applies YAML (one document or several) as `admin`; objects that name no namespace go to this one.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<()> {
        self.apply_as(Self::ADMIN, namespace, yaml).await
    }

    /// The same as somebody else, for instance a GitOps tool.
    pub async fn apply_as(&self, user: &str, namespace: &str, yaml: &str) -> Result<()> {
        let args = ["apply", "--namespace", namespace, "--filename=-"];
        self.kubectl_as(user, &args, Some(yaml)).await.map(drop)
    }

    /// One object; `what` is like `deployment/checkout`.
    pub async fn get(&self, namespace: &str, what: &str) -> Result<Value> {
        let text = self.kubectl(&["get", what, "--namespace", namespace, "--output=json"]).await?;
        serde_json::from_str(&text).context("kubectl wrote no JSON")
    }

    /// Waits for what `kubectl wait --for` understands: `condition=Available`, `delete`, `jsonpath={.a.b}=c`. An object that is
    /// not there yet is waited for, too.
    pub async fn wait(&self, namespace: &str, what: &str, condition: &str, limit: Duration) -> Result<()> {
        let span = format!("--timeout={}ms", limit.as_millis());
        let asked = format!("--for={condition}");
        wait::until(&format!("{what} to be {condition}"), limit, || async {
            let told = self.kubectl(&["wait", what, "--namespace", namespace, &asked, &span]).await;
            match told {
                Err(error) if format!("{error:#}").contains("(NotFound)") => Err(error),
                told => Ok(Some(told)),
            }
        })
        .await?
        .map(drop)
    }

    /// Installs CRDs and waits until the API serves them.
    pub async fn install(&self, crds: Crds) -> Result<()> {
        let path = binaries::manifest(crds.path())?;
        self.defined(&path.display().to_string()).await
    }

    /// The same with a CRD's text, such as one of ours.
    pub async fn define(&self, definition: &str) -> Result<()> {
        let folder = Folder::new("definition")?;
        let file = folder.write("definition.yaml", definition)?;
        self.defined(&file.display().to_string()).await
    }

    /// `kubectl wait` ends with an accessor error where a CRD has no conditions at all yet, and what is established is served a
    /// moment later: both are asked again.
    async fn defined(&self, path: &str) -> Result<()> {
        let file = format!("--filename={path}");
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "--validate=false", &file]).await?;
        wait::until("the CRDs to be established", INSTALLED_WITHIN, || async {
            self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &file]).await.map(Some)
        })
        .await?;
        let names = self.kubectl(&["get", &file, "--output=name"]).await?;
        let kinds: Vec<&str> =
            names.lines().filter_map(|name| name.split_once('/')).map(|(_, kind)| kind).collect();
        ensure!(!kinds.is_empty(), "{path} defines no kinds: {names}");
        let kinds = kinds.join(",");
        wait::until("the API to serve them", INSTALLED_WITHIN, || async {
            self.kubectl(&["get", &kinds, "--all-namespaces", "--output=name"]).await.map(Some)
        })
        .await
        .map(drop)
    }

    /// Waits until the API server's own answer to whether a user may do this is `wanted`: a grant counts when its cache has it.
    /// `what` is a verb and a resource, such as `("patch", "httproutes.gateway.networking.k8s.io")`.
    pub async fn wait_rights(
        &self,
        user: &str,
        namespace: &str,
        what: (&str, &str),
        wanted: bool,
    ) -> Result<()> {
        let (verb, resource) = what;
        let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
            "user": user, "groups": ["people", "system:authenticated"],
            "resourceAttributes": {"namespace": namespace, "verb": verb, "resource": name, "group": group}}});
        let url = format!("{}/apis/authorization.k8s.io/v1/subjectaccessreviews", self.url);
        let client = http::client()?;
        let asked = || async {
            let request = client.post(&url).bearer_auth(self.token(Self::ADMIN)).json(&review);
            let answer: Value = serde_json::from_str(&http::answer(&url, request.send().await).await?)?;
            answer["status"]["allowed"].as_bool().context("no answer to the review")
        };
        wait::until_equal(&format!("{user} may {verb} {resource}"), GRANTED_WITHIN, wanted, asked).await
    }

    /// Waits until a user may do in a namespace what a ClusterRole says, once it has been bound there.
    pub async fn wait_role(&self, user: &str, namespace: &str, role: &str) -> Result<()> {
        let url = format!("{}/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}", self.url);
        let asked = http::client()?.get(&url).bearer_auth(self.token(Self::ADMIN)).send().await;
        let role: Value = serde_json::from_str(&http::answer(&url, asked).await?)?;
        for rule in role["rules"].as_array().into_iter().flatten() {
            let first = |field: &str| rule[field][0].as_str().unwrap_or_default();
            let resource = format!("{}.{}", first("resources"), first("apiGroups"));
            self.wait_rights(user, namespace, (first("verbs"), &resource), true).await?;
        }
        Ok(())
    }

    /// Lets a user do everything, as a cluster admin.
    pub async fn allow_everything(&self, user: &str) -> Result<()> {
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: all-{user}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}, \
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]}}"
        );
        self.apply("default", &binding).await?;
        self.wait_rights(user, "default", ("*", "*.*"), true).await
    }

    /// Keeps what the API server reports about the objects under a path, such as
    /// `/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes`, from now until dropped.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        http::install_crypto();
        Watch::start(format!("{}{path}", self.url), self.token(Self::ADMIN)).await
    }
}

/// A Role and its RoleBinding, both called `sluice`, that give the user `sluice` in a namespace what the daemon has where it
/// is deployed: the rules of all roles in `deploy/kubernetes/rbac.yaml`, which writes each rule on a line.
pub fn deployed_rights() -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes/rbac.yaml");
    let roles = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let rules: Vec<&str> = roles.lines().filter(|line| line.starts_with("  - {apiGroups: ")).collect();
    ensure!(!rules.is_empty(), "{}: no rule stands on a line of its own", file.display());
    Ok(format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: sluice}}\nrules:\n{}\n---\n\
         {{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: sluice}}, \
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: sluice}}, \
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: sluice}}]}}\n",
        rules.join("\n")
    ))
}
