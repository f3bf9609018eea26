//! What stands in `deploy/` does what it says: policies are sound, metrics exist, and the rights that are granted there are
//! enough for a whole release, and no more.

mod examples;
#[cfg(feature = "real")]
mod image;
#[cfg(feature = "real")]
mod manifests;
mod metrics;
#[cfg(feature = "real")]
mod rights;
#[cfg(feature = "real")]
mod subjects;
#[cfg(feature = "real")]
mod walkthrough;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The walk-through's shop has one namespace, whose objects a story may have changed: one story at a time.
#[cfg(feature = "real")]
static SHOP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A file or folder below `deploy/`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

fn text(path: &str) -> Result<String> {
    let path = deploy(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
