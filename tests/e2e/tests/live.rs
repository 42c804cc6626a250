//! Server-sent events: each supplier sees its own imports as they happen, and nobody else's.

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use e2e::stream::{Event, Stream, about};
use stack::platform::{Client, Upload, task_id};
use stack::workbook::Spec;

const COMPLETED: &str = "lote.catalog.v1.ImportCompleted";

#[tokio::test]
async fn a_supplier_watches_its_own_imports_and_no_others() -> Result<()> {
    let scene = Scene::start("live", |options| options.env("IMPORT_BATCH_ROWS", 50)).await?;
    let (ours, theirs) =
        (scene.platform.supplier("PROV001").await?, scene.platform.supplier("PROV002").await?);
    let operator = scene.platform.user("operator", None).await?;
    let mut our_stream = Stream::open(&ours, None).await?;
    let mut their_stream = Stream::open(&theirs, None).await?;
    let mut operators = Stream::open(&operator, None).await?;

    let (file, truth) = scene.workbook(&Spec { bad: 20, ..Spec::new(1, "LIVE", 4_000) })?;
    let task = task_id(&ours.upload(&Upload::new(&file, "PROV001")).await?)?;
    let seen = our_stream.until(COMPLETED, &task).await?;
    let progress: Vec<_> = seen.iter().filter(|event| event.kind == "job.progress").collect();
    ensure!(!progress.is_empty(), "no progress was shown: {seen:?}");
    let processed: Vec<_> =
        progress.iter().filter_map(|event| event.data["data"]["progress"]["processed"].as_i64()).collect();
    ensure!(
        processed.len() == progress.len() && processed.is_sorted(),
        "progress goes forward: {processed:?}"
    );
    let completed = seen.last().context("the completed event")?;
    ensure!(completed.data["data"]["resumen"]["total"] == truth.summary.total, "{completed:?}");
    ensure!(completed.data["data"]["resumen"]["rechazados"] == truth.summary.rejected, "{completed:?}");
    let for_operators = operators.until(COMPLETED, &task).await?;
    ensure!(!about(&for_operators, &task).is_empty(), "operators see all suppliers");

    // The other's stream lives, and has nothing to say about it.
    let (file, _) = scene.workbook(&Spec::new(2, "THEIRS", 20))?;
    let their_task = task_id(&theirs.upload(&Upload::new(&file, "PROV002")).await?)?;
    let they_saw = their_stream.until(COMPLETED, &their_task).await?;
    ensure!(about(&they_saw, &task).is_empty() && about(&they_saw, "PROV001").is_empty(), "{they_saw:?}");

    // Whoever comes back with the last id gets what came after it, in its order.
    let first = seen.first().context("a first event")?;
    let mut again = Stream::open(&ours, Some(&first.id)).await?;
    let replayed = again.until(COMPLETED, &task).await?;
    let ids = |events: &[Event]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    ensure!(
        ids(&replayed) == ids(&seen[1..]),
        "{:?} after {}, not {:?}",
        ids(&replayed),
        first.id,
        ids(&seen[1..])
    );
    Ok(())
}

#[tokio::test]
async fn nobody_watches_without_a_token() -> Result<()> {
    let scene = Scene::start("unwatched", |options| options.workers(0)).await?;
    let nobody = Client::nobody(&scene.platform.gateway_url());
    let answer = nobody.get("/api/v1/stream").await?;
    ensure!(answer.status == 401 && answer.content_type == "application/problem+json", "{answer}");
    Ok(())
}
