//! The gateway's stream of server-sent events, as a browser reads it.

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Response};
use serde_json::Value;
use stack::platform::Client;
use std::time::{Duration, Instant};

/// How long a stream may be silent.
const LIMIT: Duration = Duration::from_secs(60);

/// One event of a stream.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// What a client that comes back names.
    pub id: String,
    /// `job.progress`, or the type of a domain event.
    pub kind: String,
    /// The envelope, the service's own words under `data`.
    pub data: Value,
}

/// An open stream. It ends where the gateway gets no answer of Redis in time; then it is opened again where it was, as an
/// `EventSource` does.
pub struct Stream {
    client: Client,
    response: Response,
    buffer: String,
    /// The last id that was seen.
    last: Option<String>,
}

impl Stream {
    /// Opens a stream, and waits for its first lines: from then on it misses nothing. With the id of an event it
    /// begins after that one.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn open(client: &Client, after: Option<&str>) -> Result<Self> {
        let response = connect(client, after).await?;
        let last = after.map(str::to_owned);
        let mut stream = Self { client: client.clone(), response, buffer: String::new(), last };
        if after.is_none() {
            let first = stream.block().await?;
            ensure!(first.contains("retry:"), "{first}");
        }
        Ok(stream)
    }

    /// The next block of lines.
    async fn block(&mut self) -> Result<String> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let id = block.lines().find_map(|line| line.strip_prefix("id:"));
                self.last = id.map(|id| id.trim().to_owned()).or(self.last.take());
                return Ok(block);
            }
            let chunk = tokio::time::timeout(LIMIT, self.response.chunk())
                .await
                .context("the stream is silent")??;
            if let Some(chunk) = chunk {
                self.buffer.push_str(std::str::from_utf8(&chunk)?);
                continue;
            }
            ensure!(Instant::now() < end, "the stream ends again and again");
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.response = connect(&self.client, self.last.as_deref()).await?;
            self.buffer.clear();
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

    /// All events until one of this kind about this task or run, that one included.
    ///
    /// # Errors
    /// Where it doesn't come.
    pub async fn until(&mut self, kind: &str, id: &str) -> Result<Vec<Event>> {
        let is_it = |event: &Event| {
            let about = &event.data["data"];
            event.kind == kind && (about["task_id"] == id || about["id"] == id)
        };
        self.until_one(is_it).await.with_context(|| format!("no {kind}"))
    }

    /// All events until one that is as it should be, that one included.
    ///
    /// # Errors
    /// Where it doesn't come.
    pub async fn until_one(&mut self, is_it: impl Fn(&Event) -> bool) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        for _ in 0..10_000 {
            let event = self.next().await?;
            let found = is_it(&event);
            events.push(event);
            if found {
                return Ok(events);
            }
        }
        bail!("10,000 events, and none is it")
    }
}

async fn connect(client: &Client, after: Option<&str>) -> Result<Response> {
    let mut request = client.request(Method::GET, "/api/v1/stream").timeout(LIMIT * 2);
    if let Some(id) = after {
        request = request.header("Last-Event-ID", id);
    }
    let response = request.send().await?;
    ensure!(response.status() == 200, "{}", response.status());
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    ensure!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
    Ok(response)
}

/// Those of the events that say something of a task, a run or a supplier.
pub fn about<'a>(events: &'a [Event], id: &str) -> Vec<&'a Event> {
    events.iter().filter(|event| event.data.to_string().contains(id)).collect()
}
