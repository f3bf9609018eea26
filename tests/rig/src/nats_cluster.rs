//! Several nats-servers as one JetStream cluster: who leads a stream is asked, moved, or killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;

use crate::nats::{Nats, NatsOptions};
use crate::ports::Port;
use crate::wait;

const NAMES: [&str; 3] = ["a", "b", "c"];
const AGREED_WITHIN: Duration = Duration::from_secs(180);

/// Three servers; two of them are a majority.
#[derive(Debug)]
pub struct NatsCluster {
    /// One may be killed, frozen and started again.
    pub nodes: Vec<Nats>,
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// Starts all three and waits until they have agreed upon a leader.
    pub async fn start() -> Result<NatsCluster> {
        let routes = NAMES.iter().map(|_| Port::free()).collect::<Result<Vec<Port>>>()?;
        let all: Vec<String> = routes.iter().map(|port| format!("nats://{}", port.address())).collect();
        let options = NAMES.iter().zip(&routes).map(|(name, port)| {
            let cluster = format!(
                "cluster {{ name: rig, listen: \"{}\", routes: [{}], no_advertise: true }}",
                port.address(),
                all.join(", ")
            );
            NatsOptions { name: (*name).to_owned(), more: cluster, ..NatsOptions::latest() }
        });
        let nodes = try_join_all(options.map(Nats::start)).await?;
        let cluster = NatsCluster { nodes, _routes: routes };
        wait::until("the cluster to have a leader", AGREED_WITHIN, || async {
            let page = cluster.nodes[0].monitor("jsz").await?;
            let size = page["meta_cluster"]["cluster_size"].as_u64();
            let led = page["meta_cluster"]["leader"].as_str().is_some_and(|leader| !leader.is_empty());
            Ok((led && size == Some(3)).then_some(()))
        })
        .await?;
        Ok(cluster)
    }

    /// The addresses of all of them, as a client is given them.
    pub fn urls(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    /// Which node leads a stream, as a node other than `but` sees it.
    pub async fn leader(&self, stream: &str, but: Option<usize>) -> Result<usize> {
        let asked = (0..self.nodes.len()).find(|node| Some(*node) != but).context("no node is left")?;
        wait::until(&format!("a leader of {stream}"), AGREED_WITHIN, || async {
            let page = self.nodes[asked].monitor("jsz?streams=true&accounts=true").await?;
            let streams = page["account_details"][0]["stream_detail"].as_array().cloned().unwrap_or_default();
            let found = streams.iter().find(|one| one["name"] == stream).context("no such stream")?;
            let leader = found["cluster"]["leader"].as_str().unwrap_or_default();
            Ok(NAMES.iter().position(|name| *name == leader).filter(|node| Some(*node) != but))
        })
        .await
    }

    /// Kills a node as a power cut would.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        ensure!(node < self.nodes.len(), "there is no node {node}");
        self.nodes[node].server.kill();
        Ok(())
    }
}
