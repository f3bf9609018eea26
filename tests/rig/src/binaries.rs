//! Where the servers' programs are: built ones in `target/servers/bin`, the rest as Debian's packages put them.
//!
//! What is missing is an error that names the remedy; no test goes on without it.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const REMEDY: &str = "run tests/servers/install";

/// The folder that `tests/servers/install` fills: `$SLUICE_SERVERS_DIR`, or `target/servers` of this repository.
pub fn servers() -> PathBuf {
    match std::env::var_os("SLUICE_SERVERS_DIR") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers"),
    }
}

/// A program built by `tests/servers/install`.
pub fn built(name: &str) -> Result<PathBuf> {
    let program = servers().join("bin").join(name);
    if !program.is_file() {
        bail!("{} is missing: {REMEDY}", program.display());
    }
    Ok(program)
}

/// A program of a Debian package. Its folder need not be in `PATH` (haproxy and nats-server live in /usr/sbin).
pub fn packaged(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|p| p.is_file());
    match found {
        Some(program) => Ok(program),
        None => bail!("{name} is in no folder of PATH: {REMEDY}"),
    }
}

/// A CRD file or a stage that `tests/servers/install` copied, by its path below `target/servers`.
pub fn manifest(path: &str) -> Result<PathBuf> {
    let file = servers().join(path);
    if !file.exists() {
        bail!("{} is missing: {REMEDY}", file.display());
    }
    Ok(file)
}
