//! What goes on while something is down.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use sea_orm::sqlx;
use stack::Servers;
use stack::platform::{Upload, compare, task_id};
use stack::proxy::Proxy;
use stack::services::CATALOG_UPLOAD;
use stack::workbook::Spec;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn without_redis_uploads_and_statuses_work() -> Result<()> {
    let (namespace, place, options) = e2e::place("redis_down").await?;
    let (redis, redis_url) = Proxy::before(&namespace.servers().redis_url).await?;
    let seen = Servers { redis_url, ..namespace.servers().clone() };
    let scene = Scene::on(namespace, place.through(seen), &options).await?;
    let supplier = scene.platform.supplier("PROV001").await?;
    let pool = scene.platform.catalog().await?;
    // Away, and not answering: the two ways in which a cache is down.
    for (number, prefix) in [(1, "CUT"), (2, "STALLED")] {
        if number == 1 {
            redis.cut().await;
        } else {
            redis.heal().await;
            redis.stall().await;
        }
        let (file, truth) =
            scene.workbook(&Spec { bad: 5, duplicates: 5, ..Spec::new(number, prefix, 200) })?;
        let asked = Instant::now();
        let task = task_id(&supplier.upload(&Upload::new(&file, "PROV001")).await?).context(prefix)?;
        supplier.status(&task).await.context(prefix)?;
        ensure!(
            asked.elapsed() < Duration::from_secs(20),
            "{prefix}: {:?} for an upload and a status",
            asked.elapsed()
        );
        let status = supplier.finished(&task, LIMIT).await.context(prefix)?;
        let verdict = compare(&pool, None, &status, &truth, prefix).await?;
        ensure!(verdict.is_exact(), "{prefix}: {verdict:#?}");
        let listed = supplier.get("/api/v1/catalog/bulk-upload").await?;
        ensure!(listed.status == 200 && listed.body.to_string().contains(&task), "{listed}");
    }
    redis.heal().await;
    Ok(())
}

#[tokio::test]
async fn services_outlive_the_gateway_and_the_gateway_its_services() -> Result<()> {
    let mut scene = Scene::start("gateway_down", |options| options).await?;
    let platform = &mut scene.platform;
    let supplier = platform.supplier("PROV001").await?;
    let direct = supplier.at(&platform.service(&CATALOG_UPLOAD).url());
    let forged =
        stack::platform::Client::bearer(&platform.service(&CATALOG_UPLOAD).url(), "eyJhbGciOiJub25lIn0.e30.");
    let spec = Spec::new(1, "OUTLIVES", 20);
    let file = scene.dir.join("OUTLIVES.xlsx");
    spec.write_xlsx(&file)?;
    let task = task_id(&supplier.upload(&Upload::new(&file, "PROV001")).await?)?;
    supplier.finished(&task, LIMIT).await?;

    platform.gateway.kill().await?;
    direct.status(&task).await.context("with the gateway down")?;
    platform
        .service_mut(&CATALOG_UPLOAD)
        .api
        .restart()
        .await
        .context("restart of the service with the gateway down")?;
    direct.status(&task).await.context("after the service's restart, with the gateway down")?;
    let path = format!("/api/v1/catalog/bulk-upload/status/{task}");
    ensure!(forged.get(&path).await?.status == 401, "it still checks");

    // Its keys are kept: who was logged in stays so.
    platform.gateway.restart().await?;
    supplier.status(&task).await.context("after the gateway's restart")?;

    platform.service(&CATALOG_UPLOAD).api.kill().await?;
    // Any one of them may have met a moment in which the machine stood still.
    let mut fastest = Duration::MAX;
    for _ in 0..10 {
        let asked = Instant::now();
        let answer = supplier.get(&path).await?;
        fastest = fastest.min(asked.elapsed());
        ensure!(answer.status == 503 && answer.content_type == "application/problem+json", "{answer}");
        ensure!(answer.body["error"].is_string() && answer.body["details"].is_string(), "{answer}");
    }
    ensure!(fastest < Duration::from_secs(1), "503 after {fastest:?}");
    fastest = Duration::MAX;
    for _ in 0..3 {
        let asked = Instant::now();
        let answer = supplier.upload(&Upload::new(&file, "PROV001")).await?;
        fastest = fastest.min(asked.elapsed());
        ensure!(answer.status == 503, "{answer}");
    }
    ensure!(fastest < Duration::from_secs(1), "503 after {fastest:?}");
    let ready = supplier.get("/health/ready").await?;
    ensure!(ready.body.to_string().contains("catalog-upload"), "says what is down: {ready}");

    platform.service_mut(&CATALOG_UPLOAD).api.restart().await?;
    stack::wait::until("the gateway should find its service again", LIMIT, async || {
        supplier.status(&task).await.is_ok()
    })
    .await
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_hands_over() -> Result<()> {
    let scene = Scene::start("handover", |options| options.env("IMPORT_BATCH_ROWS", 20)).await?;
    let platform = &scene.platform;
    let supplier = platform.supplier("PROV001").await?;
    let pool = platform.catalog().await?;
    let (file, truth) =
        scene.workbook(&Spec { bad: 30, duplicates: 30, ..Spec::new(1, "HANDOVER", 3_000) })?;
    let task = task_id(&supplier.upload(&Upload::new(&file, "PROV001")).await?)?;
    stack::wait::until("the import should be under way", LIMIT, async || {
        let query =
            "SELECT EXISTS (SELECT FROM jobs WHERE id = $1::uuid AND state = 'running' AND processed > 0)";
        sqlx::query_scalar(query).bind(&task).fetch_one(&pool).await.unwrap_or(false)
    })
    .await?;

    let first = platform.service(&CATALOG_UPLOAD).workers.first().context("a worker")?;
    let left = first.terminate(Duration::from_secs(30)).await?;
    ensure!(left.success(), "the worker leaves in good order: {left}");
    let (state, processed, attempts): (String, i64, i32) =
        sqlx::query_as("SELECT state, processed, attempts FROM jobs WHERE id = $1::uuid")
            .bind(&task)
            .fetch_one(&pool)
            .await?;
    ensure!(state == "pending", "the import is given back, not {state}, with {processed} rows done");
    ensure!(processed > 0 && processed < 3_000, "it was struck in mid-work: {processed}");
    ensure!(attempts == 0, "a drain is no attempt: {attempts}");

    let port = stack::ports::free()?;
    let second = first.service().clone().env("HTTP_PORT", port.to_string());
    let second = second.ready_when(&format!("http://127.0.0.1:{port}/health/ready")).start().await?;
    let status = supplier.finished(&task, LIMIT).await?;
    let verdict = compare(&pool, None, &status, &truth, "HANDOVER").await?;
    ensure!(verdict.is_exact(), "{verdict:#?}");
    drop(second);
    let findings = platform.doctor().await?;
    ensure!(findings.is_empty(), "doctor: {findings:?}");
    Ok(())
}
