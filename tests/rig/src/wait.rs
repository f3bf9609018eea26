//! Waiting for a condition, with a limit, instead of sleeping.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(10);

/// Asks `look` until it gives something. Fails after `limit` with `what` and the last reason that `look` gave.
///
/// `look` answers `Ok(Some(…))` when it holds, `Ok(None)` or an error when it does not hold yet.
pub async fn until<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let begun = Instant::now();
    loop {
        let reason = match tokio::time::timeout(limit.max(EVERY), look()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => "not yet".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "the question itself was not answered".to_owned(),
        };
        if begun.elapsed() >= limit {
            bail!("waited {limit:?} for {what}: {reason}");
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Asks `look` until it gives `wanted`; the error shows what it gave last.
pub async fn until_equal<T: PartialEq + Debug, F>(
    what: &str,
    limit: Duration,
    wanted: T,
    mut look: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<T>>,
{
    let wanted = &wanted;
    until(what, limit, || {
        let look = look();
        async move {
            let seen = look.await?;
            if seen == *wanted { Ok(Some(())) } else { bail!("it is {seen:?}, wanted {wanted:?}") }
        }
    })
    .await
}
