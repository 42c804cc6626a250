//! What sms-dispatch will tell of campaigns, said in its place: its events, as they stand in `proto/lote/sms/v1`,
//! through RabbitMQ's management API.

use super::Place;
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// For how long an event is told again that RabbitMQ does not answer for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A campaign to be told of.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its day.
    pub date: NaiveDate,
    /// As people read it.
    pub state: String,
    /// Raised with each change.
    pub version: u64,
}

impl Campaign {
    /// A new one.
    pub fn new(name: &str, date: NaiveDate) -> Self {
        Self { id: uuid(), name: name.to_owned(), date, state: "EN PROCESO".to_owned(), version: 1 }
    }
}

/// A message to be told of.
#[derive(Clone, Debug)]
pub struct Settled {
    /// UUID.
    pub id: String,
    /// Raised with each change.
    pub version: u64,
    /// E.164.
    pub phone: String,
    /// What it says.
    pub text: String,
    /// When it went out, if it did.
    pub sent_at: Option<DateTime<Utc>>,
    /// `MESSAGE_STATE_SENT` and so on.
    pub state: &'static str,
    /// Why it did not go out.
    pub error: String,
}

impl Settled {
    /// A sent message; `number` tells it from others.
    pub fn sent(number: usize, text: &str) -> Self {
        Self {
            id: uuid(),
            version: 1,
            phone: format!("+57300{number:07}"),
            text: text.to_owned(),
            sent_at: DateTime::from_timestamp(1_790_000_000 + i64::try_from(number).unwrap_or_default(), 0),
            state: "MESSAGE_STATE_SENT",
            error: String::new(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "messageId": self.id,
            "version": self.version.to_string(),
            "contactId": format!("C{}", self.phone),
            "phone": self.phone,
            "text": self.text,
            "sentAt": self.sent_at.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            "state": self.state,
            "error": self.error,
        })
    }
}

/// Publishes events in the name of sms-dispatch. On a busy machine the management API may leave a request without an answer;
/// the event is told again then, under the same id, and so may come twice, as from any outbox. (AMQP is spoken by
/// `crates/messaging` alone, which this crate must not need: it is there to test it.)
#[derive(Clone, Debug)]
pub struct Publisher {
    http: reqwest::Client,
    url: String,
}

impl Publisher {
    /// To the exchange of events at a place, whose services have declared it.
    pub fn new(place: &Place) -> Self {
        Self::at(&place.servers().management_url, &place.events_exchange())
    }

    /// To an exchange.
    pub fn at(management_url: &str, exchange: &str) -> Self {
        Self { http: crate::http(), url: format!("{management_url}/api/exchanges/%2F/{exchange}/publish") }
    }

    /// Tells that a campaign began.
    ///
    /// # Errors
    /// Where RabbitMQ refuses, or nobody listens.
    pub async fn started(&self, campaign: &Campaign, expected: usize) -> Result<()> {
        self.campaign("CampaignStarted", "campaign_started", campaign, expected).await
    }

    /// Tells that a campaign is complete.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub async fn completed(&self, campaign: &Campaign, expected: usize) -> Result<()> {
        self.campaign("CampaignCompleted", "campaign_completed", campaign, expected).await
    }

    async fn campaign(&self, kind: &str, key: &str, campaign: &Campaign, expected: usize) -> Result<()> {
        let data = json!({ "campaign": {
            "id": campaign.id,
            "name": campaign.name,
            "date": campaign.date.to_string(),
            "description": format!("Descripción de {}", campaign.name),
            "state": campaign.state,
            "expectedRows": expected.to_string(),
            "version": campaign.version.to_string(),
        } });
        self.publish(kind, key, &campaign.id, data).await
    }

    /// Tells of messages, 500 at a time.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub async fn settled(&self, campaign: &Campaign, rows: &[Settled]) -> Result<()> {
        for rows in rows.chunks(500) {
            let rows: Vec<Value> = rows.iter().map(Settled::json).collect();
            let data = json!({
                "campaignId": campaign.id, "campaignDate": campaign.date.to_string(), "rows": rows,
            });
            self.publish("MessagesSettled", "messages_settled", &campaign.id, data).await?;
        }
        Ok(())
    }

    /// Publishes what is no envelope, where messages are expected.
    ///
    /// # Errors
    /// As [`Self::started`].
    pub async fn nonsense(&self) -> Result<()> {
        self.send("messages_settled", json!({ "delivery_mode": 2 }), "no envelope".to_owned()).await
    }

    async fn publish(&self, kind: &str, key: &str, subject: &str, data: Value) -> Result<()> {
        let (id, kind) = (uuid(), format!("lote.sms.v1.{kind}"));
        let envelope = json!({
            "specversion": "1.0",
            "id": id,
            "type": kind,
            "source": "/lote/sms-dispatch",
            "subject": subject,
            "time": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            "datacontenttype": "application/json",
            "data": data,
        });
        let properties = json!({
            "delivery_mode": 2, "message_id": id, "type": kind, "content_type": "application/cloudevents+json",
        });
        self.send(key, properties, envelope.to_string()).await
    }

    async fn send(&self, key: &str, properties: Value, payload: String) -> Result<()> {
        let message = json!({
            "properties": properties,
            "routing_key": format!("sms.{key}.v1"),
            "payload": payload,
            "payload_encoding": "string",
        });
        let end = Instant::now() + PATIENCE;
        let answer = loop {
            match self.post(&message).await {
                Err(error) if error.is_timeout() && Instant::now() < end => {}
                answer => break answer.context("RabbitMQ's answer")?,
            }
        };
        ensure!(answer["routed"] == true, "nobody listens to sms.{key}.v1");
        Ok(())
    }

    async fn post(&self, message: &Value) -> reqwest::Result<Value> {
        self.http.post(&self.url).json(message).send().await?.error_for_status()?.json().await
    }
}

fn uuid() -> String {
    let hex = crate::random_hex(16);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
