//! The transaction after the requests: what became of them, once.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use failpoints::Point;
use messaging::JobError;
use sea_orm::sqlx::PgConnection;

use super::{
    Left, SendSlices, Sending, Waits,
    batch::{Answer, Closes},
    claim::{progress, run_checkpoint},
};
use crate::{
    domain::{message_state::Observed, suppression::Cause},
    settle::{self, Fact},
    storage::{
        audit, providers, senders,
        suppressions::{self, New},
    },
};

/// How often answers are written again where the database can't be reached.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);

impl SendSlices {
    /// Writes what became of requests. Gives what the rest of the slice waits for, if anything.
    pub(super) async fn record(
        &self,
        sending: &Sending<'_>,
        answers: &[Answer],
        sent: i64,
    ) -> Result<Option<Left>, JobError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_record(sending, answers, sent, true).await {
                Ok(()) => break,
                // Somebody else has the slice. What a provider has said stays true: it moves rows forward without the lease.
                Err(JobError::Release) => {
                    self.try_record(sending, answers, sent, false).await?;
                    return Err(JobError::Release);
                }
                // What is not written is unknown to whoever comes next: not given up lightly.
                Err(JobError::Retry(error)) if tries < TRIES => {
                    tracing::warn!(campaign = %sending.open.id, %error, tries, "answers are not written yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        failpoints::hit(Point::BatchCommitted);
        self.suppress(answers).await?;
        let now = Utc::now();
        let pause = answers.iter().filter_map(|answer| answer.pause).max();
        let left = pause.map(|pause| Left {
            due: now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::seconds(60)),
            wait: Some(Waits::Provider),
        });
        let closed = answers.iter().any(|answer| matches!(answer.closes, Some(Closes::Provider(..))));
        Ok(left.or_else(|| closed.then_some(Left { due: now, wait: Some(Waits::Provider) })))
    }

    async fn try_record(
        &self,
        sending: &Sending<'_>,
        answers: &[Answer],
        sent: i64,
        holds: bool,
    ) -> Result<(), JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let conn = &mut *transaction;
        let facts: Vec<Fact> = answers.iter().map(|answer| answer.fact.clone()).collect();
        settle::observe(conn, &sending.open, &facts).await.map_err(JobError::Retry)?;
        for answer in answers {
            close(conn, answer).await.map_err(JobError::Retry)?;
        }
        if holds {
            run_checkpoint(sending, conn, &serde_json::json!({}), sent, &progress(sending, sent)).await?;
        }
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)
    }

    /// Whoever has opted out at the provider is suppressed here too.
    async fn suppress(&self, answers: &[Answer]) -> Result<(), JobError> {
        let now = Utc::now();
        let batch: Vec<New> = answers
            .iter()
            .filter_map(|answer| answer.opted_out.clone())
            .map(|phone| New { phone, cause: Cause::OptOut, effective_at: now })
            .collect();
        if batch.is_empty() {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        suppressions::turn(&mut transaction).await.map_err(JobError::retry)?;
        let added = suppressions::add(&mut transaction, &batch, "proveedor", "provider").await;
        added.map_err(JobError::retry)?;
        transaction.commit().await.map_err(JobError::retry)
    }
}

/// Closes what a refusal says is closed, with an audit row.
async fn close(conn: &mut PgConnection, answer: &Answer) -> anyhow::Result<()> {
    debug_assert!(answer.closes.is_none() || answer.fact.observed == Observed::NotAccepted);
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
