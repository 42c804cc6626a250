//! Campaigns of SMS on a platform: a provider's simulator as a process, people to write to, and what is told to campaigns
//! through the gateway.

use super::{Client, Options};
use crate::ports;
use crate::process::{Running, Service};
use crate::wait;
use anyhow::{Context, Result, ensure};
use reqwest::{Method, RequestBuilder, StatusCode};
use sea_orm::sqlx::{self, PgPool};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// The path of campaigns.
pub const CAMPAIGNS: &str = "/api/v1/campaigns";
/// In whose name all messages go out.
pub const SENDER: &str = "+525550001111";
/// The account's key.
const KEY: &str = "a key of tests";
/// How long the simulator may take to say which key it signs with.
const SAID: Duration = Duration::from_secs(60);

/// A simulator of Telnyx as a process: it outlives whatever is killed here, and its record is the truth.
#[derive(Debug)]
pub struct Provider {
    process: Running,
    origin: String,
    public_key: String,
    http: reqwest::Client,
}

impl Provider {
    /// Starts one, with its log in `dir`.
    ///
    /// # Errors
    /// Where it isn't ready in time.
    pub async fn start(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let port = ports::free()?.to_string();
        let origin = format!("http://127.0.0.1:{port}");
        let service = Service::new("lote-simulate", &["telnyx", &port, KEY], &dir.join("telnyx.log"))?;
        let process = service.ready_when(&format!("{origin}/health/ready")).start().await?;
        let said = || {
            let log = process.daemon().log_tail();
            log.split_once("its public key ")?.1.split_once(';').map(|(key, _)| key.to_owned())
        };
        wait::until("the simulator should say its key", SAID, async || said().is_some()).await?;
        let public_key = said().context("the simulator's public key")?;
        Ok(Self { process, origin, public_key, http: crate::http() })
    }

    /// What a platform must be told to send through it.
    #[must_use]
    pub fn settings(&self, options: Options) -> Options {
        options
            .env("TELNYX_URL", format!("{}/v2", self.origin))
            .env("TELNYX_API_KEY", KEY)
            .env("TELNYX_PUBLIC_KEY", &self.public_key)
    }

    /// Where messages are submitted.
    pub fn messages_url(&self) -> String {
        format!("{}/v2/messages", self.origin)
    }

    /// The account's key, as a request carries it.
    pub fn authorization(&self) -> String {
        format!("Bearer {KEY}")
    }

    /// Its process.
    pub fn process(&self) -> &Running {
        &self.process
    }

    /// Lets it misbehave from now on; what is left out is off.
    ///
    /// # Errors
    /// Where it doesn't take that.
    pub async fn set_faults(&self, faults: &impl Serialize) -> Result<()> {
        self.done(self.http.put(format!("{}/control/faults", self.origin)).json(faults)).await
    }

    /// What it accepted, in figures.
    ///
    /// # Errors
    /// Where it doesn't answer so.
    pub async fn summary<T: DeserializeOwned>(&self) -> Result<T> {
        self.read("/truth.json").await
    }

    /// What it accepted, in order, from a number on: up to 10,000.
    ///
    /// # Errors
    /// Where it doesn't answer so.
    pub async fn accepted<T: DeserializeOwned>(&self, from: usize) -> Result<Vec<T>> {
        self.read(&format!("/truth/accepted?from={from}")).await
    }

    /// Forgets what it accepted.
    ///
    /// # Errors
    /// Where it doesn't.
    pub async fn forget(&self) -> Result<()> {
        self.done(self.http.delete(format!("{}/truth/accepted", self.origin))).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.http.get(format!("{}{path}", self.origin)).send().await?;
        answer.error_for_status()?.json().await.with_context(|| path.to_owned())
    }

    async fn done(&self, request: RequestBuilder) -> Result<()> {
        request.send().await?.error_for_status().map(drop).context("the simulator")
    }
}

/// What a new sender is.
///
/// # Errors
/// Where it isn't taken within `limit`: the first worker writes which providers there are.
pub async fn keep_sender(admin: &Client, per_second: f64, limit: Duration) -> Result<()> {
    let sender = json!({
        "provider": "telnyx", "kind": "long_code", "per_second": per_second, "price_micros": 5_100, "currency": "USD",
    });
    let end = Instant::now() + limit;
    loop {
        let kept = admin.put(&format!("/api/v1/sms/senders/{SENDER}"), &sender).await?;
        if kept.status == StatusCode::OK {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the sender is not taken: {kept}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Adds as many active contacts with consent of a city, as an import leaves them. Their phones follow from `first`, which is
/// below 10,000,000 with all of them.
///
/// # Errors
/// The database.
pub async fn people(pool: &PgPool, city: &str, first: i64, many: i64) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let import: i32 = sqlx::query_scalar(
        "insert into imports (id, source, kind, mode, imported_by, source_rows, created, updated, unchanged, merged, rejected)
         select gen_random_uuid(), $1, 'csv', 'merge', 'test', $2, $2, 0, 0, 0, 0 returning number",
    )
    .bind(city)
    .bind(many)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into contacts (phone_e164, full_name, city, lada, state_code, is_valid, is_mobile, status, consent, import,
                               source_id)
         select '+52612' || lpad(n::text, 7, '0'), 'PERSONA ' || n, $1, '612', 'BCS', true, true, 'ACTIVE', 'contrato', $4, n
         from generate_series($2, $2 + $3 - 1) n",
    )
    .bind(city)
    .bind(first)
    .bind(many)
    .bind(import)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    sqlx::query("analyze contacts").execute(pool).await?;
    Ok(())
}

/// A plan with one text and one sender, for an audience.
pub fn plan(filter: &Value) -> Value {
    json!({
        "texts": [{ "text": "Hola {nombre|cliente}" }], "audience": { "filter": filter }, "senders": [{ "address": SENDER }],
    })
}

/// Makes a campaign and starts it. Gives its id.
///
/// # Errors
/// Where it is refused.
pub async fn start(client: &Client, name: &str, kind: &str, plan: &Value) -> Result<String> {
    let campaign = json!({ "name": name, "kind": kind, "plan": plan });
    let draft = client.post(CAMPAIGNS, &campaign).await?;
    ensure!(draft.status == StatusCode::CREATED, "{draft}");
    let id = draft.body["id"].as_str().context("an id")?.to_owned();
    act(client, &id, "start").await?;
    Ok(id)
}

/// Tells a campaign to do something: `start`, `pause`, `resume`, `cancel`.
///
/// # Errors
/// Where it is refused.
pub async fn act(client: &Client, id: &str, action: &str) -> Result<()> {
    let request = client.request(Method::POST, &format!("{CAMPAIGNS}/{id}/{action}"));
    let answer = super::answer(request.json(&Value::Null)).await?;
    ensure!(answer.status.is_success(), "{action}: {answer}");
    Ok(())
}

/// Waits until a campaign's progress is as it should be, through any outage. Gives it.
///
/// # Errors
/// Past `limit`, with the last answer.
pub async fn when(
    client: &Client,
    id: &str,
    limit: Duration,
    right: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let end = Instant::now() + limit;
    loop {
        let answer = client.get(&format!("{CAMPAIGNS}/{id}/progress")).await;
        if let Ok(answer) = &answer
            && answer.status == StatusCode::OK
            && right(&answer.body)
        {
            return Ok(answer.body.clone());
        }
        ensure!(Instant::now() < end, "campaign {id} is not so after {limit:?}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
