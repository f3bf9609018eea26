//! `/metrics` of each pod, read by Sluice itself. (Being written.)
use std::time::Duration;

use async_trait::async_trait;
use sluice_wire::policy;

use crate::{Ask, AskError, Http, Reading, Source, SourceError, ask::Place};

#[derive(Debug, Clone)]
pub(crate) struct Shape;

#[derive(Debug)]
pub(crate) struct Scrape;

pub(crate) fn pages(_block: &policy::Scrape) -> Result<[Place; 2], AskError> {
    Err(AskError::new("spec.metrics.scrape", "being written"))
}

impl Scrape {
    pub(crate) fn connect(_block: &policy::Scrape, _http: &Http) -> Result<Scrape, SourceError> {
        Ok(Scrape)
    }
}

#[async_trait]
impl Source for Scrape {
    fn name(&self) -> String {
        "scrape".to_owned()
    }
    async fn read(&self, asks: &[Ask], _at_ms: i64) -> Vec<Result<Reading, SourceError>> {
        asks.iter().map(|_| Err(SourceError::Unsupported("being written".to_owned()))).collect()
    }
    async fn history(&self, _: &Ask, _: i64, _: i64, _: Duration) -> Result<Vec<Reading>, SourceError> {
        Err(SourceError::Unsupported("being written".to_owned()))
    }
}
