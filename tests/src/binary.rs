//! The program under test: `$SLUICE_BIN`, or `target/debug/sluice`, built (once per test binary) from what stands here.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::sync::OnceCell;

/// The program's path. Never an old one: without `$SLUICE_BIN` cargo is asked to bring it up to date first.
pub async fn sluice() -> Result<PathBuf> {
    static PROGRAM: OnceCell<PathBuf> = OnceCell::const_new();
    PROGRAM.get_or_try_init(find).await.cloned()
}

async fn find() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("SLUICE_BIN") {
        let given = PathBuf::from(given);
        if !given.is_file() {
            bail!(
                "SLUICE_BIN is {}, which is no file: `cargo build -p sluice` makes target/debug/sluice",
                given.display()
            );
        }
        return Ok(given);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    build(&root).await?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("debug/sluice");
    if !program.is_file() {
        bail!(
            "{} is missing after `cargo build -p sluice`; set SLUICE_BIN to the program",
            program.display()
        );
    }
    program.canonicalize().context("the program's path")
}

async fn build(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = tokio::process::Command::new(cargo)
        .args(["build", "-p", "sluice", "--bin", "sluice"])
        .current_dir(root)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running cargo")?;
    if !built.status.success() {
        bail!("`cargo build -p sluice` failed:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    Ok(())
}
