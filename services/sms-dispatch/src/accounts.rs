//! What providers know of our account: whether there is money again, and who has opted out with them.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use sea_orm::sqlx::PgPool;
use serde_json::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    advisory_lock::{ACCOUNTS, AdvisoryLock},
    metrics, opt_outs,
    providers::{Providers, messaging::Messaging},
    storage::{
        audit,
        providers::{self, Provider},
    },
};

/// How often providers are asked.
const EVERY: Duration = Duration::from_secs(60);
/// Whoever asks and has not said for so long that it is there asks no more.
const LAPSES_AFTER: Duration = Duration::from_secs(120);
/// Longer than a round takes, whose statements the server ends, and whose questions have an end. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(600);
/// Opt-outs are asked for so much longer than since the last time: they may show late.
const OVERLAP: TimeDelta = TimeDelta::hours(1);
/// A provider that did not answer is shown as closed for so long after it was opened, for one request at a time, for the last time.
const LATELY: TimeDelta = TimeDelta::minutes(10);
/// A provider that was never asked is asked for opt-outs of so long.
const FIRST: TimeDelta = TimeDelta::days(30);

/// The background task. Any number may run at once: one asks.
pub struct Accounts {
    pool: PgPool,
    providers: Providers,
}

impl Accounts {
    pub fn new(pool: PgPool, providers: Providers) -> Self {
        Self { pool, providers }
    }

    /// Asks every minute, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let round =
                async { timeout(UNANSWERED, self.round()).await.unwrap_or_else(|late| Err(late.into())) };
            match shutdown.run_until_cancelled(round).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::warn!(error = %format!("{error:#}"), "providers are not asked about our account");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Asks each provider once, unless another worker does.
    ///
    /// # Errors
    /// The database.
    pub async fn round(&self) -> anyhow::Result<()> {
        self.show().await?;
        let Some(mut lock) = AdvisoryLock::try_take_lapsing(&self.pool, ACCOUNTS, LAPSES_AFTER).await? else {
            return Ok(());
        };
        let done = self.all(&mut lock).await;
        lock.end().await?;
        done
    }

    /// Shows which providers take messages. Each worker by itself: what one has shown would stay when another asks.
    async fn show(&self) -> anyhow::Result<()> {
        for state in providers::list(&chassis::db::orm(&self.pool)).await? {
            // Nobody opens one that is not configured any more.
            if self.providers.contains_key(&state.name) {
                // One that is asked again and again is opened each time. Of one that nothing goes through nobody knows more.
                let is_silent = state.is_half_open()
                    && state.opened_at.is_none_or(|opened_at| Utc::now() - opened_at < LATELY);
                metrics::show_provider(state.name, state.is_open() && !is_silent);
            }
        }
        Ok(())
    }

    async fn all(&self, lock: &mut AdvisoryLock) -> anyhow::Result<()> {
        for state in providers::list(&chassis::db::orm(&self.pool)).await? {
            let Some(client) = self.providers.get(&state.name) else { continue };
            lock.holds().await?;
            // One that opens by itself is not asked meanwhile.
            if state.is_open() || state.opens_at.is_none() {
                self.balance(&state, client.as_ref()).await?;
            }
            lock.holds().await?;
            self.opt_outs(&state, client.as_ref(), lock).await?;
        }
        Ok(())
    }

    /// Notes a provider's balance, and opens one that was closed and whose balance has risen since. What it had when it was closed
    /// may be too little for a message, or have nothing to do with it.
    async fn balance(&self, state: &Provider, client: &dyn Messaging) -> anyhow::Result<()> {
        let balance = match client.balance().await {
            Ok(balance) => balance.map(|balance| balance.available.micros),
            Err(error) => {
                tracing::info!(provider = state.name.name(), %error, "the balance is not known");
                return Ok(());
            }
        };
        let Some(balance) = balance else { return Ok(()) };
        let mut transaction = self.pool.begin().await?;
        // What is spent while it is open says with how much it is closed.
        let rises =
            !state.is_open() && balance > 0 && state.lowest_micros.is_none_or(|lowest| balance > lowest);
        providers::note_balance(&mut transaction, state.name, balance, rises || state.is_open()).await?;
        if rises && providers::open(&mut transaction, Some(state.name)).await? > 0 {
            let details = json!({ "reason": "balance" });
            audit::record(
                &mut transaction,
                "system",
                "sms_provider_opened",
                Some(state.name.name()),
                &details,
            )
            .await?;
            tracing::warn!(provider = state.name.name(), "a provider's balance has risen: it is open again");
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Suppresses here who has opted out there.
    async fn opt_outs(
        &self,
        state: &Provider,
        client: &dyn Messaging,
        lock: &mut AdvisoryLock,
    ) -> anyhow::Result<()> {
        let until = Utc::now();
        let since = state.opt_outs_until.unwrap_or(until - FIRST) - OVERLAP;
        let mut page = Some(1);
        while let Some(number) = page {
            lock.holds().await?;
            let found = match client.opt_outs(since, number).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::info!(provider = state.name.name(), %error, "opt-outs are not known");
                    return Ok(());
                }
            };
            let phones: Vec<String> = found.opt_outs.iter().map(|one| one.phone.to_string()).collect();
            let mut transaction = self.pool.begin().await?;
            let suppressed = opt_outs::suppress(&mut transaction, &phones, "proveedor", "provider").await?;
            transaction.commit().await?;
            opt_outs::follow(&self.pool, &suppressed).await;
            page = found.next;
        }
        Ok(providers::note_opt_outs(&self.pool, state.name, until).await?)
    }
}
