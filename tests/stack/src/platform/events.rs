use super::Place;
use crate::wait;
use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

const PRODUCTS_CHANGED: &str = "lote.catalog.v1.ProductsChanged";

/// A queue of the test's own that hears the catalog's events, read through RabbitMQ's management API. On the
/// wire an event may come twice; here it counts once, by its envelope's id.
#[derive(Debug)]
pub struct Events {
    http: reqwest::Client,
    api: String,
    queue: String,
    heard: Mutex<HashMap<String, Value>>,
}

impl Events {
    /// Begins to listen: all events from now on, as durable as the platform's own queues.
    ///
    /// # Errors
    /// Where RabbitMQ refuses, or the platform hasn't declared its exchange.
    pub async fn listen(place: &Place) -> Result<Self> {
        let (http, api) = (crate::http(), format!("{}/api", place.servers().management_url));
        let exchange = place.events_exchange();
        let queue = place.queue(&format!("test.events.{}", crate::random_hex(4)));
        let known = format!("{api}/exchanges/%2F/{exchange}");
        wait::until("the exchange of events should be there", Duration::from_secs(30), async || {
            http.get(&known).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await?;
        let durable = json!({ "durable": true, "arguments": { "x-queue-type": "quorum" } });
        let binding = json!({ "routing_key": "catalog.#", "arguments": {} });
        for (method, path, body) in [
            (Method::PUT, format!("queues/%2F/{queue}"), durable),
            (Method::POST, format!("bindings/%2F/e/{exchange}/q/{queue}"), binding),
        ] {
            let answer = http.request(method, format!("{api}/{path}")).json(&body).send().await?;
            answer.error_for_status().context("listen to events")?;
        }
        Ok(Self { http, api, queue, heard: Mutex::default() })
    }

    /// The distinct events so far that say how a task ended, as (type, envelope).
    ///
    /// # Errors
    /// Where RabbitMQ doesn't answer.
    pub async fn of(&self, task_id: &str) -> Result<Vec<(String, Value)>> {
        let all = self.all_of(task_id).await?;
        Ok(all.into_iter().filter(|(kind, _)| kind != PRODUCTS_CHANGED).collect())
    }

    /// The products that a task changed, by its events so far: for each the actions that were told of it.
    ///
    /// # Errors
    /// Where RabbitMQ doesn't answer.
    pub async fn changes(&self, task_id: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, event) in self.all_of(task_id).await?.iter().filter(|(kind, _)| kind == PRODUCTS_CHANGED) {
            for action in ["created", "updated", "deleted"] {
                for id in event["data"][action].as_array().into_iter().flatten() {
                    let id = id.as_str().unwrap_or_default().to_owned();
                    changes.entry(id).or_default().push(action.to_owned());
                }
            }
        }
        Ok(changes)
    }

    async fn all_of(&self, task_id: &str) -> Result<Vec<(String, Value)>> {
        self.take().await?;
        let heard = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ours = heard.values().filter(|event| event["data"]["taskId"] == task_id);
        Ok(ours.map(|event| (event["type"].as_str().unwrap_or_default().to_owned(), event.clone())).collect())
    }

    async fn take(&self) -> Result<()> {
        let url = format!("{}/queues/%2F/{}/get", self.api, self.queue);
        let how = json!({ "count": 500, "ackmode": "ack_requeue_false", "encoding": "auto" });
        loop {
            let answer = self.http.post(&url).json(&how).send().await?.error_for_status()?;
            let messages: Vec<Value> = answer.json().await?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                let event: Value = serde_json::from_str(message["payload"].as_str().context("a text")?)?;
                let id = event["id"].as_str().context("an envelope has an id")?.to_owned();
                self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id, event);
            }
        }
    }
}
