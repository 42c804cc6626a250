use super::{Arena, SUPPLIER};
use crate::figure::{Figure, percentile};
use anyhow::{Result, ensure};
use stack::platform::{Client, Upload, task_id};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const POLLERS: usize = 50;
const ROWS: usize = 300_000;
/// How long a poller waits between an answer and its next question. (The users' own script waits two seconds.)
const PAUSE: Duration = Duration::from_millis(100);

/// `status_latency`: of 50 clients who poll an import while it runs, through the gateway.
pub async fn measure(arena: &Arena) -> Result<()> {
    let client = arena.platform.admin().await?;
    let (file, _) = arena.workbook("POLL", ROWS)?;
    let task = task_id(&client.upload(&Upload::new(&file, SUPPLIER)).await?)?;
    let over = Arc::new(AtomicBool::new(false));
    let pollers: Vec<_> =
        (0..POLLERS).map(|_| tokio::spawn(poll(client.clone(), task.clone(), over.clone()))).collect();
    let status = client.finished(&task, Duration::from_secs(300)).await;
    over.store(true, Ordering::SeqCst);
    let mut milliseconds = Vec::new();
    for poller in pollers {
        milliseconds.extend(poller.await??);
    }
    ensure!(status?["status"] == "completed", "the import completes");
    ensure!(milliseconds.len() >= 1_000, "{} answers are too few for a p99", milliseconds.len());
    Figure::new("catalog", "status_latency", percentile(milliseconds.clone(), 99.0), "ms p99")
        .n(milliseconds.len())
        .with("pollers", POLLERS.into())
        .with("pause_ms", 100.into())
        .number("p50", percentile(milliseconds, 50.0))
        // All come from one account, which the gateway's limit of 1,200 requests a minute would stop.
        .with("rate_limit", "raised".into())
        .print();
    Ok(())
}

/// The milliseconds of each answer that came while the import ran.
async fn poll(client: Client, task: String, over: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let mut milliseconds = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let asked = Instant::now();
        client.status(&task).await?;
        milliseconds.push(asked.elapsed().as_secs_f64() * 1_000.0);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(milliseconds)
}
