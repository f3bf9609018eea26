//! A stand-in for OpenShift's router, over a real HAProxy: it reads Routes and EndpointSlices from the API server and has
//! HAProxy carry them out. What it keeps of the real one
//! (<https://docs.redhat.com/en/documentation/openshift_container_platform/4.18/html/networking/configuring-routes>, and
//! `openshift/router`, `pkg/router/template`):
//!
//! - A Service's weight (0 to 256) is shared among its endpoints; the largest share is scaled to 256, the others with it and
//!   cut to integers; an endpoint of a Service above 0 gets at least 1.
//! - Each route has a cookie that names an endpoint. Who holds one stays with its endpoint, also when that has weight 0.
//! - Changes are collected: the configuration is written, and HAProxy reloaded, at most once an interval.
//!
//! It keeps no TLS, no paths, no admission of routes. Pods have their own addresses, so it runs inside [`crate::netns`] only.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::folder::{self, Folder};
use crate::kube::{Kube, Seen, Watch};
use crate::netns;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};
use crate::{binaries, haproxy, http};

/// Of a Service, and of a server of HAProxy's.
const MOST: u32 = 256;
const CONFIG: &str = "haproxy.cfg";
const MASTER: &str = "master.sock";

/// A running router.
#[derive(Debug)]
pub struct OpenShiftRouter {
    /// HAProxy: stop, kill, freeze, start again.
    pub server: Server,
    entry: Port,
    task: JoinHandle<()>,
    _folder: Folder,
}

impl OpenShiftRouter {
    /// Starts it. The control plane needs the CRDs `Routers`. The real one's `interval` is 5 s (`RELOAD_INTERVAL`).
    pub async fn start(kube: &Kube, interval: Duration) -> Result<Self> {
        netns::guard()?;
        let (folder, entry) = (Folder::new("openshift-router")?, Port::free()?);
        let routes = kube.watch("/apis/route.openshift.io/v1/routes").await?;
        let slices = kube.watch("/apis/discovery.k8s.io/v1/endpointslices").await?;
        let config = format!("{}{}", head(&entry), Cluster::default().sections());
        folder.write(CONFIG, config)?;
        let ready = Ready::Accepts(entry.address());
        // A master with a worker: told to, it starts a worker with the new configuration, and the former one ends its requests.
        let server = Recipe::new("haproxy", binaries::packaged("haproxy")?, folder.path(), ready)
            .args(["-W", "-db", "-f", CONFIG, "-S"])
            .args([folder.path().join(MASTER).display().to_string()])
            .start()
            .await?;
        let commit = Commit {
            config: folder.path().join(CONFIG),
            master: folder.path().join(MASTER),
            head: head(&entry),
            interval,
        };
        let task = tokio::spawn(follow(routes, slices, commit));
        Ok(Self { server, entry, task, _folder: folder })
    }

    /// Where requests go in: `http://127.0.0.1:<port>`; the header `Host` says which route is meant.
    pub fn url(&self) -> String {
        format!("http://{}", self.entry.address())
    }
}

impl Drop for OpenShiftRouter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A cookie (`name=value`) that keeps its holder with one of the pods of a version, taken as a browser would take it: by asking
/// until that version answers. `None` if this answer was another version's.
pub async fn cookie_of(url: &str, host: &str, version: &str) -> Result<Option<String>> {
    let answer = http::client()?.get(url).header("Host", host).send().await?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    if header("x-version") != Some(version) {
        return Ok(None);
    }
    let cookie = header("set-cookie").context("the router sets no cookie")?;
    Ok(cookie.split(';').next().map(str::to_owned))
}

/// How a new configuration gets into effect.
struct Commit {
    config: PathBuf,
    /// The master's own socket: a signal that comes while it starts would be lost.
    master: PathBuf,
    head: String,
    interval: Duration,
}

impl Commit {
    async fn reload(&self, sections: &str) -> Result<()> {
        folder::replace(&self.config, format!("{}{sections}", self.head))?;
        haproxy::ask(&self.master, "reload").await.map(drop)
    }
}

async fn follow(routes: Watch, slices: Watch, commit: Commit) {
    let (mut cluster, mut known, mut written) = (Cluster::default(), (0, 0), String::new());
    loop {
        let (new_routes, new_slices) = (routes.events_after(known.0), slices.events_after(known.1));
        known = (known.0 + new_routes.len(), known.1 + new_slices.len());
        new_routes.iter().for_each(|seen| keep(&mut cluster.routes, seen));
        new_slices.iter().for_each(|seen| keep(&mut cluster.slices, seen));
        let sections = cluster.sections();
        if sections != written {
            let began = Instant::now();
            // What did not come about is tried again after the interval, and is missing in the counts meanwhile.
            if commit.reload(&sections).await.is_ok() {
                written = sections;
            }
            tokio::time::sleep_until(began + commit.interval).await;
        } else {
            tokio::select! {
                () = routes.changed(known.0) => {}
                () = slices.changed(known.1) => {}
            }
        }
    }
}

type Objects = BTreeMap<(String, String), Value>;

fn keep(objects: &mut Objects, seen: &Seen) {
    let namespace = text(&seen.object["metadata"]["namespace"]);
    let key = (namespace.to_owned(), seen.name().to_owned());
    if seen.kind == "DELETED" {
        objects.remove(&key);
    } else {
        objects.insert(key, seen.object.clone());
    }
}

/// Routes and EndpointSlices as the API server told of them.
#[derive(Debug, Default)]
struct Cluster {
    routes: Objects,
    slices: Objects,
}

/// A pod behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    pod: String,
    address: String,
}

impl Cluster {
    /// A frontend's line and a backend a route, in HAProxy's words.
    fn sections(&self) -> String {
        let (mut frontend, mut backends) = (String::new(), String::new());
        for ((namespace, name), route) in &self.routes {
            let backend = format!("be_http:{namespace}:{name}");
            let host = text(&route["spec"]["host"]);
            let _ = writeln!(frontend, "  use_backend {backend} if {{ hdr(host) -i {host} }}");
            let _ = write!(
                backends,
                "backend {backend}\n  balance roundrobin\n{}",
                self.servers(namespace, name, route)
            );
        }
        format!(
            "{frontend}  default_backend openshift_default\n{backends}\
            backend openshift_default\n  http-request return status 503\n"
        )
    }

    fn servers(&self, namespace: &str, name: &str, route: &Value) -> String {
        let services: Vec<(String, u32, Vec<Endpoint>)> = services(route)
            .map(|(service, weight)| (service.to_owned(), weight, self.endpoints(namespace, service)))
            .collect();
        let counted: Vec<(u32, usize)> =
            services.iter().map(|(_, weight, endpoints)| (*weight, endpoints.len())).collect();
        let mut lines = format!("  cookie {} insert indirect nocache httponly\n", hashed(&(namespace, name)));
        for ((service, _, endpoints), weight) in services.iter().zip(endpoint_weights(&counted)) {
            for Endpoint { pod, address } in endpoints {
                let cookie = hashed(&(service, pod, address));
                let _ = writeln!(
                    lines,
                    "  server pod:{pod}:{service}:{address} {address} cookie {cookie} weight {weight}"
                );
            }
        }
        lines
    }

    /// Those that are ready, by address.
    fn endpoints(&self, namespace: &str, service: &str) -> Vec<Endpoint> {
        let ours = |slice: &&Value| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        let slices = self.slices.iter().filter(|((of, _), _)| of == namespace).map(|(_, slice)| slice);
        let mut all: Vec<Endpoint> = slices.filter(ours).flat_map(endpoints_of).collect();
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }
}

fn endpoints_of(slice: &Value) -> Vec<Endpoint> {
    let port = slice["ports"][0]["port"].as_u64().unwrap_or_default();
    let all = slice["endpoints"].as_array().into_iter().flatten();
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready
        .map(|endpoint| Endpoint {
            pod: text(&endpoint["targetRef"]["name"]).to_owned(),
            address: format!("{}:{port}", text(&endpoint["addresses"][0])),
        })
        .collect()
}

/// `to`, then the alternates; what is not written is 100.
fn services(route: &Value) -> impl Iterator<Item = (&str, u32)> {
    let spec = &route["spec"];
    let all = std::iter::once(&spec["to"]).chain(spec["alternateBackends"].as_array().into_iter().flatten());
    let weight =
        |one: &Value| one["weight"].as_u64().map_or(100, |weight| weight.min(u64::from(MOST)) as u32);
    all.map(move |one| (text(&one["name"]), weight(one)))
}

/// Weight and number of endpoints of each Service to what HAProxy gives each of its endpoints.
fn endpoint_weights(services: &[(u32, usize)]) -> Vec<u32> {
    let share = |(weight, endpoints): &(u32, usize)| match endpoints {
        0 => 0.0,
        endpoints => *weight as f32 / *endpoints as f32,
    };
    let largest = services.iter().map(share).fold(0.0, f32::max);
    let scale = if largest > 0.0 { MOST as f32 / largest } else { 0.0 };
    let scaled = |share: f32| if share > 0.0 { ((share * scale) as u32).max(1) } else { 0 };
    services.iter().map(|service| scaled(share(service))).collect()
}

fn head(entry: &Port) -> String {
    format!(
        "global\n  maxconn 4000\ndefaults\n  mode http\n  option redispatch\n  timeout connect 5s\n  timeout client 30s\n  \
         timeout server 30s\nfrontend public\n  bind {}\n",
        entry.address()
    )
}

fn hashed(what: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_services_weight_is_shared_among_its_endpoints() {
        /// Weights and endpoints of Services; what each endpoint gets.
        type Row = (&'static [(u32, usize)], &'static [u32]);
        let table: [Row; 6] = [
            (&[(20, 2), (10, 4)], &[256, 64]),
            (&[(95, 2), (5, 1)], &[256, 26]),
            // 1 % of ten endpoints is less than the least that each gets.
            (&[(99, 1), (1, 10)], &[256, 1]),
            (&[(100, 3), (0, 3)], &[256, 0]),
            (&[(100, 0), (1, 2)], &[0, 256]),
            (&[(0, 3), (0, 3)], &[0, 0]),
        ];
        for (services, expected) in table {
            assert_eq!(endpoint_weights(services), expected, "{services:?}");
        }
    }
}
