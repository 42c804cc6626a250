//! What is looked at once the dust has settled, and what is left behind.

use anyhow::Result;
use stack::Stack;
use stack::platform::Platform;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is only on its way may take so long.
const SETTLED: Duration = Duration::from_secs(30);

/// What the doctors find in the end, of what `counts`.
pub async fn findings(platform: &Platform, counts: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let end = Instant::now() + SETTLED;
    loop {
        let mut findings = platform.doctor().await?;
        findings.retain(|finding| counts(finding));
        if findings.is_empty() || Instant::now() > end {
            return Ok(findings);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tells what the doctors found, and gives how much that is.
pub fn tell(case: &str, findings: &[String]) -> usize {
    for finding in findings {
        eprintln!("{case}: doctor: {finding}");
    }
    findings.len()
}

/// Stops the servers. Data and logs go too, where there is nothing in them to look at.
pub async fn end(stack: Stack, dir: &Path, clean: bool) -> Result<()> {
    if clean {
        stack.remove().await?;
    } else {
        eprintln!("logs and data stay in {}", dir.display());
    }
    Ok(())
}
