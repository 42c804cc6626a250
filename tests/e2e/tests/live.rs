//! Server-sent events: each supplier sees its own imports as they happen, and nobody else's.

use anyhow::{Context, Result, bail, ensure};
use e2e::Scene;
use reqwest::{Method, Response};
use serde_json::Value;
use stack::platform::{Client, Upload, task_id};
use stack::workbook::Spec;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const COMPLETED: &str = "lote.catalog.v1.ImportCompleted";

/// One event of a stream.
#[derive(Clone, Debug, Default)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

struct Stream {
    response: Response,
    buffer: String,
}

impl Stream {
    /// Opens a stream, and waits for its first lines: from then on it misses nothing.
    async fn open(client: &Client, after: Option<&str>) -> Result<Self> {
        let mut request = client.request(Method::GET, "/api/v1/stream").timeout(LIMIT * 2);
        if let Some(id) = after {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
        ensure!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
        let mut stream = Self { response, buffer: String::new() };
        if after.is_none() {
            let first = stream.block().await?;
            ensure!(first.contains("retry:"), "{first}");
        }
        Ok(stream)
    }

    /// The next block of lines.
    async fn block(&mut self) -> Result<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Ok(block);
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk())
                .await
                .context("the stream is silent")??;
            let chunk = chunk.context("the stream ended")?;
            self.buffer.push_str(std::str::from_utf8(&chunk)?);
        }
    }

    /// The next event; heartbeats and the like are none.
    async fn next(&mut self) -> Result<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .map(str::trim)
                    .unwrap_or_default()
                    .to_owned()
            };
            let (id, kind, data) = (field("id:"), field("event:"), field("data:"));
            if !data.is_empty() {
                return Ok(Event { id, kind, data: serde_json::from_str(&data)? });
            }
        }
    }

    /// All events until one of this kind about this task, that one included.
    async fn until(&mut self, kind: &str, task: &str) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for _ in 0..10_000 {
            let event = self.next().await?;
            let found = event.kind == kind && event.data["data"]["task_id"] == task;
            events.push(event);
            if found {
                return Ok(events);
            }
        }
        bail!("10,000 events and no {kind}")
    }
}

fn about<'a>(events: &'a [Event], task: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.data.to_string().contains(task)).collect()
}

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
