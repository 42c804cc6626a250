//! What operators see of processes and of their work.

use anyhow::{Result, ensure};
use e2e::reports::{arrived, ids, report, scene, slashed, today};
use e2e::{Scene, figures};
use serde_json::json;
use stack::platform::{Campaign, Settled, Upload, task_id};
use stack::services::{CATALOG_UPLOAD, REPORT};
use stack::workbook::Spec;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SUPPLIER: &str = "PROV001";
const READY: &str = r#"lote_queue_depth{queue="catalog.imports",state="ready"}"#;
const OLDEST: &str = r#"lote_queue_oldest_age_seconds{queue="catalog.imports"}"#;
const UP: &str = r#"lote_consumer_up{queue="catalog.imports"}"#;

#[tokio::test]
async fn imports_and_their_rows_are_counted_once_and_dry_runs_apart() -> Result<()> {
    let scene = Scene::start("figures", |options| options.env("IMPORT_BATCH_ROWS", 50)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let (file, truth) = scene.workbook(&Spec { bad: 20, ..Spec::new(1, "CIFRAS", 200) })?;
    let upload = Upload::new(&file, SUPPLIER);
    for upload in [upload.clone().with("dry_run", "true"), upload] {
        supplier.finished(&task_id(&supplier.upload(&upload).await?)?, LIMIT).await?;
    }
    let catalog = scene.platform.service(&CATALOG_UPLOAD);
    let worker = &catalog.workers[0];
    for (series, value) in [
        (r#"catalog_imports_total{kind="import",outcome="completed"}"#, 1),
        (r#"catalog_imports_total{kind="dry_run",outcome="completed"}"#, 1),
        (r#"catalog_imports_total{kind="import",outcome="failed"}"#, 0),
        (r#"catalog_rows_total{outcome="created"}"#, truth.summary.created),
        (r#"catalog_rows_total{outcome="rejected"}"#, truth.summary.rejected),
        (r#"catalog_rows_total{outcome="updated"}"#, truth.summary.updated),
        (UP, 1),
        (r#"lote_pool_connections_max{pool="redis"}"#, 8),
    ] {
        // What a job's end is followed by may come a moment after its end is seen.
        figures::until(worker, series, |told| told == Some(value as f64)).await?;
    }
    ensure!(truth.summary.rejected > 0);
    let role = |role: &str| {
        let version = env!("CARGO_PKG_VERSION");
        format!(
            r#"lote_build_info{{revision="unknown",role="{role}",service="catalog-upload",version="{version}"}}"#
        )
    };
    for (process, role) in [(worker, role("worker")), (&catalog.api, role("api"))] {
        ensure!(figures::of(process, &role).await? == Some(1.0), "{role}");
        ensure!(figures::of(process, "process_resident_memory_bytes").await? > Some(1e6));
        let idle = figures::of(process, r#"lote_pool_connections{pool="postgresql",state="idle"}"#).await?;
        ensure!(idle >= Some(0.0), "{idle:?}");
    }
    ensure!(figures::of(&catalog.api, UP).await?.is_none(), "an API consumes nothing");
    Ok(())
}

#[tokio::test]
async fn a_backlog_is_seen_while_no_worker_runs() -> Result<()> {
    let scene = Scene::start("figuresidle", |options| options.workers(0)).await?;
    let supplier = scene.platform.supplier(SUPPLIER).await?;
    let (file, _) = scene.workbook(&Spec::new(1, "COLA", 20))?;
    ensure!(supplier.upload(&Upload::new(&file, SUPPLIER)).await?.status == 202);
    let api = &scene.platform.service(&CATALOG_UPLOAD).api;
    figures::until(api, READY, |ready| ready >= Some(1.0)).await?;
    figures::until(api, OLDEST, |age| age > Some(1.0)).await
}

#[tokio::test]
async fn files_of_reports_and_their_rows_are_counted() -> Result<()> {
    let (scene, sms, operator) = scene("figuresreport").await?;
    let day = today();
    let campaign = Campaign::new("Cifras", day);
    sms.started(&campaign, 30).await?;
    let rows: Vec<_> = (0..30).map(|row| Settled::sent(row, "hola")).collect();
    sms.settled(&campaign, &rows).await?;
    arrived(&scene, 30).await?;
    ensure!(ids(&operator, day).await?.len() == 1);
    let run = report(&operator, &json!({ "fecha": slashed(day) })).await?;
    ensure!(run["estado"] == "COMPLETADO", "{run}");
    let worker = &scene.platform.service(&REPORT).workers[0];
    figures::until(worker, r#"report_files_total{outcome="completed"}"#, |files| files == Some(1.0)).await?;
    figures::until(worker, "report_rows_total", |rows| rows == Some(30.0)).await
}
