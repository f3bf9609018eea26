//! How a story runs: on one runtime for the whole test binary, so that servers which several stories share outlive each
//! of them; and not too many at once, since the machine is shared by servers, daemons and load.

use std::sync::LazyLock;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Stories at once. (`cargo test` itself runs as many as there are cores, unless told `--test-threads`.)
const AT_ONCE: usize = 6;

static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().enable_all().build());
static ROOM: Semaphore = Semaphore::const_new(AT_ONCE);

/// Runs one story to its end. An error is the test's failure, told with its whole chain.
pub fn story(told: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let runtime = RUNTIME.as_ref().context("no runtime for the stories")?;
    runtime.block_on(async {
        let _room = ROOM.acquire().await?;
        // As a task of the runtime's own: a panic inside stays that story's.
        tokio::spawn(told).await.context("the story panicked")?
    })
}
