//! What `run` can be told, and what the runtime gets of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use sluice_bus::{Limits, StreamLimits};
use sluice_wire::policy::cluster_name;

use super::{Global, NatsAccess};
use crate::cluster_rights::Grant;
use crate::http::TlsFiles;

/// The folder of policies that nobody named.
const POLICIES: &str = "policies";
/// Room for decision records if nobody says otherwise.
pub const RECORDS: &str = "512MiB";
/// With less, not even one rollout's record may be whole.
const LEAST_RECORDS: u64 = 16 << 20;
/// Where policies' secrets stand if nobody says otherwise.
pub const SECRETS: &str = "/etc/sluice/secrets";

/// As typed.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Folder (or file) of policies; several times for several. `policies` if left out, unless they come from the cluster.
    #[arg(long, env = "SLUICE_POLICIES", value_name = "PATH", value_delimiter = ',')]
    pub policies: Vec<PathBuf>,
    /// Serve the policies that stand in the cluster as RolloutPolicy objects (deploy/kubernetes/rolloutpolicies.json), too: of
    /// these namespaces, or of all. A file of the same name comes first.
    #[arg(
        long,
        env = "SLUICE_POLICIES_FROM_CLUSTER",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*"
    )]
    pub policies_from_cluster: Option<Vec<String>>,
    /// What policies in the cluster may use of this daemon beyond the objects of their own namespace, separated by commas;
    /// nothing if left out. Policies in files may all of it.
    #[arg(long, env = "SLUICE_CLUSTER_POLICIES_MAY", value_enum, value_name = "WHAT", value_delimiter = ',')]
    pub cluster_policies_may: Vec<Grant>,
    /// Where messages and state are kept; `nats` as soon as --nats is given.
    #[arg(long, env = "SLUICE_BUS", value_enum)]
    pub bus: Option<BusKind>,
    /// Folder of the embedded bus' file.
    #[arg(long, env = "SLUICE_DATA", default_value = "sluice-data", value_name = "DIR")]
    pub data: PathBuf,
    /// How much the decision records of all rollouts may take together (512MiB, 8GiB); beyond it the oldest go. On NATS it is the
    /// stream's size: `sluice init` makes it so.
    #[arg(long, env = "SLUICE_RECORDS", default_value = RECORDS, value_name = "SIZE", value_parser = size)]
    pub records: u64,
    /// Where the HTTP API listens. Beyond loopback nobody may write without --http-tokens.
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:7878", value_name = "ADDRESS", value_parser = listening)]
    pub listen: SocketAddr,
    /// File with one `user token` a line; read again for every request.
    #[arg(long, env = "SLUICE_HTTP_TOKENS", value_name = "FILE")]
    pub http_tokens: Option<PathBuf>,
    /// Certificate of the HTTP API (PEM, with those that sign it after it): it speaks HTTPS then. Read again when it is renewed.
    #[arg(long, env = "SLUICE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, env = "SLUICE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// File with one `user PUBLIC-KEY` (nkey, U…) a line: every command has to be signed by a key of its user. Read again
    /// for every command.
    #[arg(long, env = "SLUICE_SIGNERS", value_name = "FILE")]
    pub signers: Option<PathBuf>,
    /// Folder of the secrets that policies name (`tokenFile`, `urlFile`), by path or by name below it; they can name no other
    /// file. Several: separated by commas.
    #[arg(
        long,
        env = "SLUICE_SECRETS",
        default_value = SECRETS,
        value_name = "DIR",
        value_delimiter = ','
    )]
    pub secrets: Vec<PathBuf>,
    /// An address or network (10.0.0.0/8) that a policy may reach although it is link-local, a metadata service, or this
    /// daemon's own API. Several: separated by commas.
    #[arg(long = "allow-address", env = "SLUICE_ALLOW_ADDRESS", value_name = "ADDRESS", value_delimiter = ',', value_parser = network)]
    pub allowed: Vec<IpNet>,
    /// This daemon's name, the same at every start; the host's if left out.
    #[arg(long, env = "SLUICE_DAEMON", value_name = "NAME")]
    pub daemon: Option<String>,
    /// The cluster that this daemon acts in, where several share one NATS: it carries out policies that name this cluster, or
    /// none.
    #[arg(long, env = "SLUICE_CLUSTER", value_name = "NAME", value_parser = cluster)]
    pub cluster: Option<String>,
    /// In place of $KUBECONFIG, ~/.kube/config, or the pod's own account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub kube_context: Option<String>,
    /// How log lines look. What is logged: $SLUICE_LOG (`debug`, `sluice=debug,kube=warn`).
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BusKind {
    Embedded,
    Nats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Resolved: what the runtime gets.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Folders or files.
    pub policies: Vec<PathBuf>,
    /// Namespaces whose policies in the cluster are served; an empty list: all.
    pub cluster_policies: Option<Vec<String>>,
    /// What those may use of this daemon.
    pub cluster_policies_may: Vec<Grant>,
    pub bus: BusChoice,
    /// Room for decision records, in bytes.
    pub records_bytes: u64,
    pub listen: SocketAddr,
    pub http_tokens: Option<PathBuf>,
    /// Nothing: plain HTTP.
    pub tls: Option<TlsFiles>,
    pub signers: Option<PathBuf>,
    /// Folders below which policies' secrets stand.
    pub secrets: Vec<PathBuf>,
    /// What a policy may reach all the same.
    pub allowed: Vec<IpNet>,
    /// The same at every start: what stands under this name is taken back.
    pub daemon: String,
    /// Where several share the bus.
    pub cluster: Option<String>,
    /// Nothing: $KUBECONFIG, ~/.kube/config, or the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    pub kube_context: Option<String>,
}

#[derive(Debug, Clone)]
pub enum BusChoice {
    /// In one process, kept in a file in this folder; nothing: in memory.
    Embedded {
        data: Option<PathBuf>,
    },
    Nats(Box<NatsAccess>),
}

impl Default for RunOptions {
    /// In memory, on a free port of loopback: for tests and the demo.
    fn default() -> Self {
        RunOptions {
            policies: Vec::new(),
            cluster_policies: None,
            cluster_policies_may: Vec::new(),
            bus: BusChoice::Embedded { data: None },
            records_bytes: Limits::default().records.bytes,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http_tokens: None,
            tls: None,
            signers: None,
            secrets: Vec::new(),
            allowed: Vec::new(),
            daemon: "sluice".to_owned(),
            cluster: None,
            kubeconfig: None,
            kube_context: None,
        }
    }
}

impl RunOptions {
    /// Of the bus.
    pub fn limits(&self) -> Limits {
        with_records(self.records_bytes)
    }
}

/// The usual limits of the bus, with this room for decision records.
pub fn with_records(bytes: u64) -> Limits {
    let limits = Limits::default();
    Limits { records: StreamLimits { bytes, ..limits.records }, ..limits }
}

impl RunArgs {
    /// Errors say what to type.
    pub fn resolve(self, global: &Global) -> Result<RunOptions, String> {
        let nats = global.nats.is_given();
        let bus = match (self.bus, nats) {
            (Some(BusKind::Nats), false) => {
                return Err("--bus nats needs the server: add --nats nats://127.0.0.1:4222".to_owned());
            }
            (Some(BusKind::Embedded), true) => {
                return Err("--bus embedded and --nats exclude each other: leave one out".to_owned());
            }
            (Some(BusKind::Nats) | None, true) => BusChoice::Nats(Box::new(global.nats.clone())),
            (Some(BusKind::Embedded) | None, false) => BusChoice::Embedded { data: Some(self.data) },
        };
        let cluster_policies = self.policies_from_cluster.map(namespaces);
        let folder = || vec![PathBuf::from(POLICIES)];
        let policies =
            if self.policies.is_empty() && cluster_policies.is_none() { folder() } else { self.policies };
        Ok(RunOptions {
            policies,
            cluster_policies,
            cluster_policies_may: self.cluster_policies_may,
            bus,
            records_bytes: self.records,
            listen: self.listen,
            http_tokens: self.http_tokens,
            tls: self.tls_cert.zip(self.tls_key).map(|(certificate, key)| TlsFiles { certificate, key }),
            signers: self.signers,
            secrets: self.secrets,
            allowed: self.allowed,
            daemon: self.daemon.unwrap_or_else(host_name),
            cluster: self.cluster,
            kubeconfig: self.kubeconfig,
            kube_context: self.kube_context,
        })
    }
}

/// Empty: all.
fn namespaces(given: Vec<String>) -> Vec<String> {
    if given.iter().any(|namespace| namespace == "*") { Vec::new() } else { given }
}

/// A cluster's name as policies have it.
pub fn cluster(text: &str) -> Result<String, String> {
    cluster_name(text).map(|()| text.to_owned())
}

/// Bytes: `512MiB`, `8GiB`.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write for example 512MiB or 8GiB, and at least 16MiB");
    let units = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (number, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| (LEAST_RECORDS..1 << 60).contains(bytes));
    bytes.ok_or_else(wrong)
}

fn listening(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no address to listen on: write IP:PORT, 127.0.0.1:7878 for this host only, 0.0.0.0:7878 for all")
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(|_| address());
    network.map_err(|_| format!("{text:?} is no address: write for example 10.0.0.7 or 10.0.0.0/8"))
}

/// What a daemon is called that nobody named.
pub fn host_name() -> String {
    let told = std::env::var("HOSTNAME").ok();
    let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    told.or_else(read)
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or("sluice".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!((size("512MiB"), size("8 GiB")), (Ok(512 << 20), Ok(8 << 30)));
        assert_eq!(size(RECORDS), Ok(Limits::default().records.bytes));
        for wrong in ["512", "512MB", "1MiB", "0GiB", "-1GiB", "99999999999TiB", "GiB", ""] {
            assert!(size(wrong).is_err_and(|why| why.contains("8GiB")), "{wrong}");
        }
    }
}
