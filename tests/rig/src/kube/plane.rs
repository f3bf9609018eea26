//! The command lines of the control plane, and the order in which its parts start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;

use anyhow::{Context, Result};
use rcgen::KeyPair;

use super::{Audit, Kube, KubeOptions, audit, stages};
use crate::binaries;
use crate::folder::Folder;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};

/// The controllers that touch what Sluice touches; a name that does not exist ends the controller manager.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,replicationcontroller-controller,statefulset-controller,daemonset-controller,\
    endpointslice-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller,\
    job-controller,horizontal-pod-autoscaler-controller,disruption-controller";

/// The control plane's own users. All may do everything; the audit log leaves them out.
const OWN_USERS: [&str; 3] = ["system:kube-controller-manager", "system:kube-scheduler", "system:kwok"];

/// Where pods' addresses come from. They lead nowhere outside of [`crate::netns`].
pub const POD_CIDR: &str = "10.244.0.0/16";

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: node-0, annotations: {kwok.x-k8s.io/node: fake}, \
    labels: {kubernetes.io/hostname: node-0}}, \
    status: {allocatable: {cpu: '1000', memory: 1Ti, pods: '100000'}, capacity: {cpu: '1000', memory: 1Ti, pods: '100000'}}}";

/// Held as long as the control plane lives, so that its parts can come back where they were.
#[derive(Debug)]
pub struct Ports {
    etcd: Port,
    peer: Port,
    api: Port,
    controllers: Port,
    scheduler: Port,
    kubelet: Port,
}

impl Ports {
    fn take() -> Result<Self> {
        Ok(Self {
            etcd: Port::free()?,
            peer: Port::free()?,
            api: Port::free()?,
            controllers: Port::free()?,
            scheduler: Port::free()?,
            kubelet: Port::free()?,
        })
    }
}

pub async fn start(options: &KubeOptions) -> Result<Kube> {
    let (folder, ports) = (Folder::new("kube")?, Ports::take()?);
    write_access(&folder, &ports, &options.users)?;
    folder.write("audit-policy.yaml", audit::policy(&OWN_USERS, options))?;
    let stages = folder.write("stages.yaml", stages::all()?)?;
    let root = folder.path();

    let etcd = etcd(root, &ports).await?;
    let api = apiserver(root, &ports).await?;
    let (controllers, scheduler, kubelet) = tokio::try_join!(
        controller_manager(root, &ports),
        scheduler(root, &ports),
        kwok(root, &ports, &stages)
    )?;
    let kube = Kube {
        etcd,
        api,
        controllers,
        scheduler,
        kubelet,
        audit: Audit::new(root.join(audit::FILE)),
        url: format!("https://{}", ports.api.address()),
        kubectl: binaries::built("kubectl")?,
        folder,
        namespaces: AtomicU32::new(1),
        _ports: ports,
    };
    kube.apply("default", NODE).await?;
    kube.wait("default", "node/node-0", "condition=Ready", std::time::Duration::from_secs(120)).await?;
    Ok(kube)
}

async fn etcd(root: &Path, ports: &Ports) -> Result<Server> {
    let (client, peer) = (http(ports.etcd.address()), http(ports.peer.address()));
    Recipe::new("etcd", binaries::built("etcd")?, root, Ready::Http(format!("{client}/readyz")))
        .args(["--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn"])
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
        .args([format!("--initial-cluster=default={peer}")])
        .start()
        .await
}

async fn apiserver(root: &Path, ports: &Ports) -> Result<Server> {
    let ready = Ready::Http(format!("https://{}/readyz", ports.api.address()));
    Recipe::new("kube-apiserver", binaries::built("kube-apiserver")?, root, ready)
        .args([format!("--etcd-servers={}", http(ports.etcd.address()))])
        .args([format!("--secure-port={}", ports.api.number())])
        .args(["--cert-dir=certificates", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .args(["--service-account-key-file=service-account.pub", "--service-account-issuer=https://rig"])
        .args(["--service-account-signing-key-file=service-account.pem", "--token-auth-file=tokens.csv"])
        .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
        // The admission plugin would taint the fake node, and no pod would ever be scheduled.
        .args([
            "--endpoint-reconciler-type=none",
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        ])
        .args([
            format!("--audit-log-path={}", audit::FILE),
            "--audit-policy-file=audit-policy.yaml".to_owned(),
        ])
        .start()
        .await
}

async fn controller_manager(root: &Path, ports: &Ports) -> Result<Server> {
    let ready = Ready::Http(format!("https://{}/healthz", ports.controllers.address()));
    Recipe::new("kube-controller-manager", binaries::built("kube-controller-manager")?, root, ready)
        .args([
            format!("--kubeconfig={}", kubeconfig_name(OWN_USERS[0])),
            format!("--controllers={CONTROLLERS}"),
        ])
        .args([format!("--secure-port={}", ports.controllers.number())])
        .args(["--bind-address=127.0.0.1", "--leader-elect=false", "--cert-dir=controller-certificates"])
        .args(["--service-account-private-key-file=service-account.pem"])
        .args(["--kube-api-qps=1000", "--kube-api-burst=2000"])
        .start()
        .await
}

async fn scheduler(root: &Path, ports: &Ports) -> Result<Server> {
    let ready = Ready::Http(format!("https://{}/healthz", ports.scheduler.address()));
    Recipe::new("kube-scheduler", binaries::built("kube-scheduler")?, root, ready)
        .args([format!("--kubeconfig={}", kubeconfig_name(OWN_USERS[1]))])
        .args([format!("--secure-port={}", ports.scheduler.number())])
        .args(["--bind-address=127.0.0.1", "--leader-elect=false", "--cert-dir=scheduler-certificates"])
        .args(["--kube-api-qps=1000", "--kube-api-burst=2000"])
        .start()
        .await
}

async fn kwok(root: &Path, ports: &Ports, stages: &Path) -> Result<Server> {
    let address = ports.kubelet.address();
    Recipe::new("kwok", binaries::built("kwok")?, root, Ready::Http(format!("{}/readyz", http(address))))
        .env("HOME", &root.display().to_string()) // or it would read a configuration of this account
        .args([
            format!("--kubeconfig={}", kubeconfig_name(OWN_USERS[2])),
            format!("--config={}", stages.display()),
        ])
        .args([format!("--cidr={POD_CIDR}"), format!("--server-address={address}")])
        .args(["--manage-all-nodes=true", "--node-ip=127.0.0.1"])
        .start()
        .await
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Tokens, kubeconfigs, the key of service accounts.
fn write_access(folder: &Folder, ports: &Ports, users: &[String]) -> Result<()> {
    let key = KeyPair::generate().context("making the key of service accounts")?;
    folder.write("service-account.pem", key.serialize_pem())?;
    folder.write("service-account.pub", key.public_key_pem())?;

    let mut tokens = String::new();
    let masters = OWN_USERS.into_iter().chain([Kube::ADMIN]).map(|user| (user, "system:masters"));
    for (user, group) in masters.chain(users.iter().map(|user| (user.as_str(), "people"))) {
        tokens += &format!("{},{user},{user},\"{group}\"\n", token(user));
        folder.write(&kubeconfig_name(user), kubeconfig(folder, ports, user))?;
    }
    folder.write("tokens.csv", tokens).map(drop)
}

pub fn token(user: &str) -> String {
    format!("token-of-{}", user.replace(':', "-"))
}

pub fn kubeconfig_name(user: &str) -> String {
    format!("{}.kubeconfig", user.replace(':', "-"))
}

fn kubeconfig(folder: &Folder, ports: &Ports, user: &str) -> String {
    let ca: PathBuf = folder.path().join("certificates/apiserver.crt");
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: rig\n\
         clusters: [{{name: rig, cluster: {{server: 'https://{}', certificate-authority: '{}'}}}}]\n\
         users: [{{name: user, user: {{token: {}}}}}]\n\
         contexts: [{{name: rig, context: {{cluster: rig, user: user}}}}]\n",
        ports.api.address(),
        ca.display(),
        token(user)
    )
}
