//! Contour: turns Gateway API routes and HTTPProxy objects of a [`Kube`] into Envoy's configuration.
//!
//! Its data plane ([`crate::Envoy`]) sends to pods' addresses, so both run inside [`crate::netns`] only.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use crate::folder::Folder;
use crate::kube::Kube;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};
use crate::{binaries, netns};

/// Envoy listens on the Gateway's port plus this.
const SHIFT: u16 = 8000;

/// How to start it.
#[derive(Debug, Clone)]
pub struct ContourOptions {
    /// Where GatewayClass `contour` and the Gateway `gateway` are made.
    pub namespace: String,
    /// The Gateway's port.
    pub port: u16,
}

impl Default for ContourOptions {
    fn default() -> Self {
        Self { namespace: "default".to_owned(), port: 1080 }
    }
}

/// A running Contour with one GatewayClass and one Gateway; HTTPRoutes attach to it by `parentRefs`.
#[derive(Debug)]
pub struct Contour {
    /// The process: stop, kill, freeze, start again.
    pub server: Server,
    program: PathBuf,
    options: ContourOptions,
    ports: Ports,
    folder: Folder,
}

#[derive(Debug)]
struct Ports {
    xds: Port,
    health: Port,
    metrics: Port,
    debug: Port,
    stats: Port,
}

impl Contour {
    /// The Gateway's name.
    pub const GATEWAY: &'static str = "gateway";

    /// Makes class and Gateway, starts it and waits for `/healthz`. The control plane needs the CRDs
    /// `GatewayExperimental` and `Contour`.
    pub async fn start(kube: &Kube, options: ContourOptions) -> Result<Self> {
        netns::guard()?;
        let ports = Ports {
            xds: Port::free()?,
            health: Port::free()?,
            metrics: Port::free()?,
            debug: Port::free()?,
            stats: Port::free()?,
        };
        let folder = Folder::new("contour")?;
        kube.apply(&options.namespace, &gateway(&options)).await?;
        folder.write("contour.yaml", config(&options))?;
        let program = binaries::built("contour")?;
        let ready = Ready::Http(format!("http://{}/healthz", ports.health.address()));
        let server = Recipe::new("contour", program.clone(), folder.path(), ready)
            .env("CONTOUR_NAMESPACE", &options.namespace)
            .args(["serve", "--insecure", "--disable-leader-election", "--config-path=contour.yaml"])
            .args([format!("--kubeconfig={}", kube.kubeconfig(Kube::ADMIN).display())])
            .args(listen("xds", &ports.xds))
            .args(listen("health", &ports.health))
            .args(listen("http", &ports.metrics))
            .args(listen("debug-http", &ports.debug))
            .args(listen("stats", &ports.stats))
            .args(["--envoy-service-http-address=127.0.0.1", "--envoy-service-https-address=127.0.0.1"])
            .args(UNUSED.map(|feature| format!("--disable-feature={feature}")))
            .start()
            .await?;
        Ok(Self { server, program, options, ports, folder })
    }

    /// Where Envoy will listen for the Gateway.
    pub fn entry(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.options.port + SHIFT).into()
    }

    /// Where Envoy will show its statistics: `/stats/prometheus`.
    pub fn stats(&self) -> SocketAddr {
        self.ports.stats.address()
    }

    /// Writes the configuration with which an Envoy finds this Contour, and gives its path.
    pub(crate) async fn bootstrap(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("envoy.json");
        let admin = self.folder.path().join("envoy-admin.sock");
        let address = format!("--xds-address={}", self.ports.xds.address().ip());
        let port = format!("--xds-port={}", self.ports.xds.number());
        let admin = format!("--admin-address={}", admin.display());
        let file = path.display().to_string();
        crate::server::output(&self.program, &["bootstrap", &file, &address, &port, &admin], None).await?;
        Ok(path)
    }
}

/// Kinds that no test uses; without their CRDs Contour would wait for them for ever.
const UNUSED: [&str; 5] = ["extensionservices", "tlsroutes", "grpcroutes", "tcproutes", "backendtlspolicies"];

fn listen(what: &str, port: &Port) -> [String; 2] {
    [format!("--{what}-address={}", port.address().ip()), format!("--{what}-port={}", port.number())]
}

fn config(options: &ContourOptions) -> String {
    format!("gateway: {{gatewayRef: {{namespace: {}, name: {}}}}}\n", options.namespace, Contour::GATEWAY)
}

fn gateway(options: &ContourOptions) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: contour}}, \
         spec: {{controllerName: projectcontour.io/gateway-controller}}}}\n---\n\
         {{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: {}}}, \
         spec: {{gatewayClassName: contour, listeners: [{{name: http, protocol: HTTP, port: {}, \
         allowedRoutes: {{namespaces: {{from: All}}}}}}]}}}}\n",
        Contour::GATEWAY,
        options.port
    )
}
