//! The transaction after the requests: what became of them, once.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use failpoints::Point;
use messaging::JobError;
use sea_orm::sqlx::PgConnection;

use super::{
    Left, Waits,
    batch::{Answer, Closes, Requests},
};
use crate::{
    opt_outs,
    settle::{self, Fact},
    storage::{audit, providers, senders},
};

/// How often answers are written again where the database can't be reached.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

impl Requests {
    /// Writes what became of requests. What a provider has said is true whoever has the slice by now, and moves rows
    /// forward: it needs no lease. Gives what the rest of the slice waits for, if anything.
    pub(super) async fn record(&self, answers: &[Answer]) -> Result<Option<Left>, JobError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_record(answers).await {
                Ok(suppressed) => {
                    failpoints::hit(Point::BatchCommitted);
                    opt_outs::follow(&self.pool, &suppressed).await;
                    break;
                }
                // What is not written is unknown to whoever comes next: not given up lightly.
                Err(JobError::Retry(error)) if tries < TRIES => {
                    tracing::warn!(campaign = %self.open.id, %error, tries, "answers are not written yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        let now = Utc::now();
        let pause = answers.iter().filter_map(|answer| answer.pause).max();
        let left = pause.map(|pause| Left {
            due: now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::seconds(60)),
            wait: Some(Waits::Provider),
        });
        let closed = answers.iter().any(|answer| matches!(answer.closes, Some(Closes::Provider(..))));
        Ok(left.or_else(|| closed.then_some(Left { due: now, wait: Some(Waits::Provider) })))
    }

    /// Whoever has opted out at the provider is suppressed here too, in the same transaction. Gives those who were not before.
    async fn try_record(&self, answers: &[Answer]) -> Result<Vec<String>, JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let conn = &mut *transaction;
        let facts: Vec<Fact> = answers.iter().map(|answer| answer.fact.clone()).collect();
        let changed = settle::observe(conn, &self.open, &facts).await.map_err(JobError::Retry)?;
        for answer in answers {
            close(conn, answer).await.map_err(JobError::Retry)?;
        }
        let phones: Vec<String> = answers.iter().filter_map(|answer| answer.opted_out.clone()).collect();
        let suppressed = opt_outs::suppress(conn, &phones, "proveedor", "provider").await;
        let suppressed = suppressed.map_err(JobError::Retry)?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        changed.tally.count();
        Ok(suppressed)
    }
}

/// Closes what an answer says is closed, with an audit row.
async fn close(conn: &mut PgConnection, answer: &Answer) -> anyhow::Result<()> {
    let (action, of, details, is_news) = match &answer.closes {
        None => return Ok(()),
        Some(Closes::Provider(reason, pause)) => {
            let opens_at =
                pause.and_then(|pause| TimeDelta::from_std(pause).ok()).map(|pause| Utc::now() + pause);
            let is_news = providers::close(conn, answer.provider, reason, opens_at).await?;
            let details = serde_json::json!({ "reason": reason, "opens_at": opens_at });
            ("sms_provider_closed", answer.provider.name(), details, is_news)
        }
        Some(Closes::Sender(address, reason)) => {
            let is_news = senders::disable(conn, address).await?;
            ("sms_sender_closed", address.as_str(), serde_json::json!({ "reason": reason }), is_news)
        }
    };
    if is_news {
        tracing::error!(action, of, %details, "a provider takes no messages");
        audit::record(conn, "system", action, Some(of), &details).await?;
    }
    Ok(())
}
