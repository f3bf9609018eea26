//! A network of its own, in which the addresses of fake pods are local and a real data plane can send them real
//! requests.
//!
//! [`enclosed`] runs the current test a second time, inside a new user, network and PID namespace, where
//! `ip route add local 10.244.0.0/16 dev lo` makes every pod's address this machine's own. No request to such an
//! address ever leaves it: the body runs only after a guard has seen that the addresses are local and that there is no
//! way out. All that was started ends with the namespace.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::kube::POD_CIDR;

/// Set for the second run.
const MARK: &str = "SLUICE_RIG_ENCLOSED";
/// Some pod.
const PROBE: &str = "10.244.0.7";

/// Runs `body` in a network of its own. `test` is the test's whole name as the test runner lists it, such as
/// `traffic::share_of_requests`; the caller is that test.
///
/// ```no_run
/// # use sluice_rig::netns;
/// #[test]
/// fn share_of_requests() -> anyhow::Result<()> {
///     netns::enclosed("share_of_requests", async || Ok(()))
/// }
/// ```
pub fn enclosed(test: &str, body: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    if std::env::var_os(MARK).is_none() {
        return run_inside(test);
    }
    guard()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("making a runtime")?;
    runtime.block_on(body())
}

/// Whether this process is in a network of its own, with local pods and no way out. Looked at once.
pub fn is_enclosed() -> bool {
    static ENCLOSED: OnceLock<bool> = OnceLock::new();
    *ENCLOSED.get_or_init(|| guard().is_ok())
}

/// Fails unless pods' addresses are local here and nothing leads outside.
pub fn guard() -> Result<()> {
    let route = ip(&["-4", "route", "get", PROBE])?;
    if !route.starts_with("local") {
        bail!("{PROBE} is not local here, a request to it would leave this machine: {route}");
    }
    let way_out = ip(&["-4", "route", "show", "default"])?;
    if !way_out.trim().is_empty() {
        bail!("there is a way out of here: {way_out}");
    }
    Ok(())
}

fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new(binaries::packaged("ip")?).args(args).output().context("running ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run_inside(test: &str) -> Result<()> {
    let ip = binaries::packaged("ip")?;
    let prepare =
        format!("{0} link set lo up && {0} route add local {POD_CIDR} dev lo && exec \"$@\"", ip.display());
    let output = Command::new(binaries::packaged("setpriv")?)
        .args(["--pdeathsig", "KILL", "--"]) // or the inner run would survive a killed test
        .arg(binaries::packaged("unshare")?)
        .args(["--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", &prepare, "sh"])
        .arg(std::env::current_exe().context("this test's own binary")?)
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(MARK, "1")
        .output()
        .context("running unshare")?;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{test} failed in a network of its own ({}):\n{told}", output.status);
    }
    // A name that matches no test would pass without having run anything.
    if !told.contains("test result: ok. 1 passed") {
        bail!("no test is named {test:?}:\n{told}");
    }
    print_through(&told);
    Ok(())
}

/// What the inner run wrote belongs to this test's output.
#[expect(clippy::print_stdout, reason = "the test runner captures it and shows it when asked")]
fn print_through(told: &str) {
    println!("{told}");
}
