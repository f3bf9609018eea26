//! Toxiproxy: stands between the daemon and a server, and harms what passes: slow links, refused connections, packets that
//! vanish. The server itself, and everybody else who talks to it, notices nothing.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::binaries;
use crate::folder::Folder;
use crate::http;
use crate::ports::Port;
use crate::server::{Ready, Recipe, Server};

/// The process; its proxies end with it.
#[derive(Debug)]
pub struct Toxiproxy {
    _server: Server,
    client: reqwest::Client,
    port: Port,
    _folder: Folder,
}

/// What may be done to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Each packet takes this much longer, in each direction, give or take a third.
    Slow(Duration),
    /// A connection that the server closes stays open for so long.
    SlowClose(Duration),
    /// Half-open: nothing comes through in either direction, and no connection ends. New ones are accepted.
    Silent,
}

/// One link to a server.
#[derive(Debug)]
pub struct Link {
    client: reqwest::Client,
    url: String,
    name: String,
    upstream: SocketAddr,
    port: Port,
}

impl Toxiproxy {
    /// Starts it without any links.
    pub async fn start() -> Result<Toxiproxy> {
        let (folder, port) = (Folder::new("toxiproxy")?, Port::free()?);
        let ready = Ready::Http(format!("http://{}/version", port.address()));
        let server = Recipe::new("toxiproxy", binaries::built("toxiproxy")?, folder.path(), ready)
            .args(["-host".to_owned(), "127.0.0.1".to_owned(), "-port".to_owned(), port.number().to_string()])
            .start()
            .await?;
        Ok(Toxiproxy { _server: server, client: http::client()?, port, _folder: folder })
    }

    /// A link to a server, unharmed.
    pub async fn link(&self, name: &str, upstream: SocketAddr) -> Result<Link> {
        let (url, port) = (format!("http://{}/proxies", self.port.address()), Port::free()?);
        let body = json!({"name": name, "listen": port.address().to_string(),
            "upstream": upstream.to_string(), "enabled": true});
        post(&self.client, &url, &body).await?;
        Ok(Link {
            client: self.client.clone(),
            url: format!("{url}/{name}"),
            name: name.to_owned(),
            upstream,
            port,
        })
    }
}

impl Link {
    /// Where the server is, seen through this link.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `url` with the server's address replaced by the link's.
    pub fn through(&self, url: &str) -> Result<String> {
        let upstream = self.upstream.to_string();
        ensure!(
            url.contains(&upstream),
            "{url} does not lead to {upstream}, where the link {} does",
            self.name
        );
        Ok(url.replace(&upstream, &self.address().to_string()))
    }

    /// Every connection is closed, new ones are refused: the server is away.
    pub async fn cut(&self) -> Result<()> {
        post(&self.client, &self.url, &json!({"enabled": false})).await
    }

    /// After [`Link::cut`]: it is back.
    pub async fn mend(&self) -> Result<()> {
        post(&self.client, &self.url, &json!({"enabled": true})).await
    }

    /// Does this to the link from now on, to connections that are open as well; several harms add up.
    pub async fn harm(&self, harm: Harm) -> Result<()> {
        let millis = |span: Duration| u64::try_from(span.as_millis());
        let (kind, attributes) = match harm {
            Harm::Slow(by) => ("latency", json!({"latency": millis(by)?, "jitter": millis(by / 3)?})),
            Harm::SlowClose(after) => ("slow_close", json!({"delay": millis(after)?})),
            Harm::Silent => ("timeout", json!({"timeout": 0})),
        };
        for stream in ["upstream", "downstream"] {
            let toxic = json!({"type": kind, "stream": stream, "name": format!("{kind}-{stream}"), "attributes": attributes});
            post(&self.client, &format!("{}/toxics", self.url), &toxic).await?;
        }
        Ok(())
    }

    /// Takes all harms away. Connections on which packets vanished are closed by that: they have holes.
    pub async fn heal(&self) -> Result<()> {
        let toxics = format!("{}/toxics", self.url);
        let listed = http::get_json(&self.client, &toxics).await?;
        for toxic in listed.as_array().context("no list of toxics")? {
            let url = format!("{toxics}/{}", toxic["name"].as_str().context("a toxic without a name")?);
            http::answer(&url, self.client.delete(&url).send().await).await?;
        }
        Ok(())
    }
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Result<()> {
    http::answer(url, client.post(url).json(body).send().await).await.map(drop)
}
