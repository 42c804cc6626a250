mod ledger;
mod million;
mod pace;
mod people;
mod rate;
mod singles;
mod states;
mod updates;
mod webhooks;

use crate::numbers;
use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, PgPool};
use serde_json::Value;
use simulators::messages::{Faults, Summary};
use stack::platform::sending::{self, Provider};
use stack::platform::{Client, Options, Place, Platform};
use stack::process::Running;
use stack::services::SMS_DISPATCH;
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(3 * 60 * 60);
/// Figures of an arena with a small audience, and of the one with all contacts.
const SMALL: [&str; 3] = ["insert_10k", "messages", "settled"];
const LARGE: [&str; 8] =
    ["ledger_1m", "heap_only", "totals", "webhook", "priority_added", "pause", "update_1k", "peak_memory"];

/// Measures what is wanted, on servers of its own that are as durable as in production, each group of figures on a platform of
/// its own with the services' default settings but for rates. `ROWS` says how many contacts the large audience has: 1,000,000
/// unless told; above 4,000,000 they are inserted and not imported.
pub async fn measure(wanted: impl Fn(&str) -> bool) -> Result<()> {
    let dir = stack::home().join(format!("bench/dispatch-{}", stack::random_hex(3)));
    std::fs::create_dir_all(&dir)?;
    let stack = Stack::start(&dir.join("servers")).await?;
    if SMALL.iter().any(|figure| wanted(figure)) {
        let arena = Arena::start(&stack, &dir, "rate", 1, FAST).await?;
        rate::measure(&arena, &wanted).await?;
        arena.end().await?;
    }
    if wanted("rate_overshoot") {
        let arena = Arena::start(&stack, &dir, "pace", 2, FAST).await?;
        pace::overshoot(&arena).await?;
        arena.end().await?;
    }
    if LARGE.iter().any(|figure| wanted(figure)) {
        let arena = Arena::start(&stack, &dir, "million", 1, FAST).await?;
        million::measure(arena, &dir, &wanted).await?;
    }
    stack.remove().await?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Parts a second of an account that is not what bounds a figure.
const FAST: f64 = 10_000.0;

/// A platform that sends through a simulator, and somebody who has campaigns sent.
struct Arena {
    namespace: Namespace,
    platform: Platform,
    provider: Provider,
    pool: PgPool,
    /// At the gateway; and at the service's own port, where what the gateway adds is not the matter.
    client: Client,
    direct: Client,
}

impl Arena {
    async fn start(stack: &Stack, dir: &Path, label: &str, workers: usize, per_second: f64) -> Result<Self> {
        let namespace = Namespace::create_on(&stack.servers(), label).await?;
        let dir = dir.join(label);
        let provider = Provider::start(&dir).await?;
        let options = Options::new(&dir)
            .workers(0)
            .with(&SMS_DISPATCH, workers)
            .env("ACCESS_TOKEN_SECONDS", 86_400)
            .env("RUST_LOG", "warn")
            // Reports come as fast as messages go: what the gateway lets in of a vendor is not the matter.
            .env("RATE_LIMIT_WEBHOOK", "10000000/60")
            .env("SMS_QUIET_HOURS", false)
            .env("TELNYX_PARTS_PER_SECOND", per_second)
            .env("SMS_APPROVE_ABOVE", 100_000_000)
            .env("SMS_APPROVE_ABOVE_COST", 100_000_000);
        let platform = Platform::start(Place::of(&namespace).await?, &provider.settings(options)).await?;
        let (pool, client) = (platform.contacts().await?, platform.admin().await?);
        sending::keep_sender(&client, per_second, Duration::from_secs(60)).await?;
        let direct = client.at(&platform.service(&SMS_DISPATCH).url());
        let arena = Self { namespace, platform, provider, pool, client, direct };
        arena.faults(&silent()).await?;
        Ok(arena)
    }

    async fn end(self) -> Result<()> {
        self.pool.close().await;
        drop(self.platform);
        self.namespace.cleanup().await
    }

    async fn faults(&self, faults: &Faults) -> Result<()> {
        self.provider.set_faults(faults).await
    }

    async fn summary(&self) -> Result<Summary> {
        self.provider.summary().await
    }

    /// Waits until the provider has accepted so many messages since it forgot the last.
    async fn accepted(&self, many: usize) -> Result<Summary> {
        let began = Instant::now();
        loop {
            let summary = self.summary().await?;
            if summary.accepted >= many {
                return Ok(summary);
            }
            ensure!(began.elapsed() < PATIENCE, "{} of {many} messages were accepted", summary.accepted);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn when(&self, id: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
        sending::when(&self.direct, id, PATIENCE, right).await
    }

    /// A campaign's number, which rows are found by.
    async fn number(&self, id: &str) -> Result<i32> {
        let number = sqlx::query_scalar("select number from campaigns where id = $1::uuid").bind(id);
        number.fetch_one(&self.pool).await.context("the campaign")
    }

    fn worker(&self) -> Result<&Running> {
        self.platform.service(&SMS_DISPATCH).workers.first().context("a worker")
    }

    /// How many updates the ledger has had, and how many of them stayed in their pages.
    async fn updates(&self) -> Result<(i64, i64)> {
        let updates = "select coalesce(sum(n_tup_upd), 0)::bigint, coalesce(sum(n_tup_hot_upd), 0)::bigint
                       from pg_stat_user_tables where schemaname = current_schema() and relname ~ '^messages_[0-9]{8}$'";
        Ok(sqlx::query_as(updates).fetch_one(&self.pool).await?)
    }
}

/// A provider that answers at once, and reports nothing.
fn silent() -> Faults {
    Faults { webhooks: false, texts: false, ..Faults::default() }
}

/// Recipients of the small audience: 60,000 of a million contacts.
fn small() -> Result<i64> {
    Ok((i64::try_from(numbers::rows()?)? / 16).clamp(2_000, 60_000))
}
