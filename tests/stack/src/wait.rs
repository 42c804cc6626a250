//! Waiting for a condition, never for an amount of time.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Asks `condition` until it says yes, a little more slowly each time (10 to 100 ms).
///
/// # Errors
/// Past `limit`, naming `what`.
pub async fn until<F, Fut>(what: &str, limit: Duration, mut condition: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(10);
    while !condition().await {
        if Instant::now() >= end {
            bail!("waited {limit:?} in vain: {what}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
    Ok(())
}
