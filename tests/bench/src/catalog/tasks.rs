use super::{Arena, SUPPLIER};
use crate::figure::{Figure, median};
use anyhow::{Result, ensure};
use serde_json::Value;
use stack::platform::{Client, Upload, task_id};
use std::time::{Duration, Instant};

const ROWS: usize = 100_000;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(300);

/// `dry_run_100k`: from 202 to `completed` of a dry run; `annotated_100k`: from the first question for the annotated
/// workbook of an import until its answer has all of it; `undo_100k`: from the request to take that import back to
/// `completed`.
pub async fn measure(arena: &Arena) -> Result<()> {
    let client = arena.platform.admin().await?;
    let (mut dry_runs, mut annotated, mut undone, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        let prefix = format!("T{round}");
        let (file, truth) = arena.workbook(&prefix, ROWS)?;
        let upload = Upload::new(&file, SUPPLIER);
        let plan = task_id(&client.upload(&upload.clone().with("dry_run", "true")).await?)?;
        dry_runs.push(finished(&client, &plan, truth.summary.successful).await?);

        let task = task_id(&client.upload(&upload).await?)?;
        finished(&client, &task, truth.summary.successful).await?;
        let asked = Instant::now();
        bytes = workbook(&client, &task).await?;
        annotated.push(asked.elapsed().as_secs_f64());

        let undo = task_id(&client.task(&task, "undo").await?)?;
        undone.push(finished(&client, &undo, truth.summary.successful).await?);
        eprintln!("dry run {:?} s, annotated {:?} s, undo {:?} s", dry_runs, annotated, undone);
    }
    Figure::new("catalog", "dry_run_100k", median(dry_runs), "s").n(ROWS).print();
    Figure::new("catalog", "undo_100k", median(undone), "s").n(ROWS).print();
    Figure::new("catalog", "annotated_100k", median(annotated), "s")
        .n(ROWS)
        .with("mb", serde_json::json!((bytes as f64 / 1e5).round() / 10.0))
        .print();
    Ok(())
}

/// Seconds from now until a task has completed with so many rows accepted.
async fn finished(client: &Client, task: &str, accepted: u64) -> Result<f64> {
    let began = Instant::now();
    let status: Value = client.finished(task, LIMIT).await?;
    let took = began.elapsed().as_secs_f64();
    ensure!(status["result"]["resumen"]["exitosos"] == accepted, "{task} is wrong: {}", status["error"]);
    Ok(took)
}

/// The annotated workbook's size in bytes, once it is there.
async fn workbook(client: &Client, task: &str) -> Result<usize> {
    let path = format!("/api/v1/catalog/bulk-upload/{task}/annotated.xlsx");
    let end = Instant::now() + LIMIT;
    loop {
        let answer = client.request(reqwest::Method::GET, &path).send().await?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await?;
        match status {
            200 => return Ok(body.len()),
            202 => {}
            other => anyhow::bail!("{path}: {other} {}", String::from_utf8_lossy(&body)),
        }
        ensure!(Instant::now() < end, "no annotated workbook within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
