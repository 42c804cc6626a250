//! The transaction after the requests: what became of them, once.

use std::{sync::atomic::Ordering, time::Duration};

use chassis::db::in_time;
use chrono::{TimeDelta, Utc};
use failpoints::Point;
use messaging::JobError;
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool};
use tokio::time::timeout;

use super::{
    Left, Waits,
    requests::{Answer, Closes, Requests},
};
use crate::{
    closings,
    domain::sender::ProviderName,
    opt_outs,
    settle::{self, Fact, Open},
    storage::{ledger, providers, senders, slices},
};

/// How often answers are written again where the database can't be reached.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(250);
/// How long that may take. A server that is there says something long before; one whose host is gone says nothing, ever.
const UNANSWERED: Duration = Duration::from_secs(10);
/// A provider that does not answer is closed for so long. Then one request asks whether it does again.
const OPENS_AFTER: Duration = Duration::from_secs(30);
const BROKEN_OFF: &str = "El proveedor no responde";

/// What answers come to besides their messages.
#[derive(Default)]
struct Recorded {
    /// Phones that were not suppressed before.
    suppressed: Vec<String>,
    /// The provider takes no messages now.
    closed: bool,
    /// It says so itself, and until when nobody knows.
    for_good: Option<ProviderName>,
}

impl Requests {
    /// Writes what became of requests of one sender. What a provider has said is true whoever has the slice by now, and moves rows
    /// forward: it needs no lease. Gives what the rest of the slice waits for, if anything.
    pub(super) async fn record(&self, answers: &[Answer]) -> Result<Option<Left>, JobError> {
        let mut tries = 0;
        let recorded = loop {
            tries += 1;
            match self.try_record(answers).await {
                Ok(recorded) => break recorded,
                // What is not written is unknown to whoever comes next: not given up lightly.
                Err(error) if tries < TRIES => {
                    let error = format!("{error:#}");
                    tracing::warn!(campaign = %self.open.id, error, tries, "answers are not written yet");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(JobError::Retry(error)),
            }
        };
        failpoints::hit(Point::BatchCommitted);
        opt_outs::follow(&self.pool, &recorded.suppressed).await;
        let now = Utc::now();
        let pause = answers.iter().filter_map(|answer| answer.pause).max();
        let due = pause.map(|pause| now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::seconds(60)));
        let left = due.or(recorded.closed.then_some(now)).map(|due| Left::until(due, Some(Waits::Provider)));
        if self.gone.load(Ordering::SeqCst)
            && let Err(error) = self.settle(left).await
        {
            // It is due at its deadline all the same.
            tracing::warn!(campaign = %self.open.id, error = %format!("{error:#}"), "a slice is not ended yet");
        }
        if let Some(provider) = recorded.for_good {
            self.note_balance(provider).await;
        }
        Ok(left)
    }

    async fn try_record(&self, answers: &[Answer]) -> anyhow::Result<Recorded> {
        let mut conn = self.pool.acquire().await?;
        let written = timeout(UNANSWERED, self.write(&mut conn, answers)).await;
        in_time(&mut conn, written)
    }

    async fn write(&self, conn: &mut PgConnection, answers: &[Answer]) -> anyhow::Result<Recorded> {
        let mut transaction = conn.begin().await?;
        let conn = &mut *transaction;
        let facts: Vec<Fact> = answers.iter().map(|answer| answer.fact.clone()).collect();
        let changed = settle::observe(conn, &self.open, &facts).await?;
        let mut recorded = Recorded::default();
        for answer in answers {
            match &answer.closes {
                None => {}
                Some(Closes::Sender(address, reason)) => {
                    closings::close_sender(conn, address, reason).await?;
                }
                Some(Closes::Provider(reason, pause)) => {
                    recorded.closed = true;
                    let closed = closings::close_provider(conn, answer.provider, reason, *pause).await?;
                    if closed && pause.is_none() {
                        recorded.for_good = Some(answer.provider);
                    }
                }
            }
        }
        // All are of one sender.
        if let Some(Answer { provider, sender, .. }) = answers.first() {
            if let Some(time) = answers.iter().filter_map(|answer| answer.holds).max() {
                senders::hold(conn, sender, time).await?;
                tracing::warn!(
                    sender,
                    seconds = time.as_secs(),
                    "a sender's provider has too much of it: it is held"
                );
            }
            let (provider, silent_ones) = (*provider, answers.iter().filter(|answer| answer.is_silent()));
            let silent = silent_ones.count() as i32;
            let answered = answers.iter().filter(|answer| answer.made && !answer.is_silent()).count() as i32;
            let probe = self.asking.iter().find(|(name, _)| *name == provider).map(|(_, until)| *until);
            if providers::count_answers(conn, provider, (answered, silent), probe).await? {
                closings::close_provider(conn, provider, BROKEN_OFF, Some(OPENS_AFTER)).await?;
                recorded.closed = true;
            }
        }
        // Whoever has opted out at the provider is suppressed here too, in the same transaction.
        let phones: Vec<String> = answers.iter().filter_map(|answer| answer.opted_out.clone()).collect();
        recorded.suppressed = opt_outs::suppress(conn, &phones, "proveedor", "provider").await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await?;
        changed.tally.count();
        Ok(recorded)
    }

    /// The job has left the slice: where these were its last requests it is done, and where something is to be sent again it is due.
    async fn settle(&self, left: Option<Left>) -> anyhow::Result<()> {
        let mut conn = self.pool.acquire().await?;
        let settled = timeout(UNANSWERED, self.end_slice(&mut conn, left)).await;
        in_time(&mut conn, settled)
    }

    async fn end_slice(&self, conn: &mut PgConnection, left: Option<Left>) -> anyhow::Result<()> {
        let (open, grant) = (&self.open, self.grant);
        let mut transaction = conn.begin().await?;
        slices::lock(&mut transaction, open.number, grant.first).await?;
        let range = (grant.first, grant.last);
        let unsettled = ledger::unsettled(&mut transaction, open.date, open.number, range).await?;
        match (unsettled.pending, unsettled.submitting) {
            (0, 0) => slices::settle(&mut transaction, open.number, grant.first).await?,
            (0, _) => {}
            _ => {
                let left = left.unwrap_or_else(Left::now);
                slices::put_off(&mut transaction, open.number, grant.first, left.due, left.wait()).await?;
            }
        }
        Ok(transaction.commit().await?)
    }

    /// With what it has now the provider takes no messages: more is money again.
    async fn note_balance(&self, provider: ProviderName) {
        let Some(client) = self.providers.get(&provider) else { return };
        let balance = match client.balance().await {
            Ok(Some(balance)) => balance.available.micros,
            Ok(None) => return,
            Err(error) => {
                return tracing::info!(provider = provider.name(), %error, "the balance is not known");
            }
        };
        let noted = async {
            let mut conn = self.pool.acquire().await?;
            providers::note_balance(&mut conn, provider, balance, true).await
        };
        if let Err(error) = noted.await {
            tracing::warn!(provider = provider.name(), %error, "the balance is not noted");
        }
    }
}

/// Writes of attempts that nothing was asked in them. Whoever has the slice by now sends these messages, in attempts of its own.
pub(super) async fn take_back(pool: &PgPool, open: &Open, facts: &[Fact]) {
    for tries in 1..=TRIES {
        let written = async {
            let mut conn = pool.acquire().await?;
            let written = timeout(UNANSWERED, observe(&mut conn, open, facts)).await;
            in_time(&mut conn, written)
        };
        match written.await {
            Ok(0) => return,
            Ok(messages) => {
                return tracing::info!(campaign = %open.id, messages, "messages that nobody asked for wait again");
            }
            // After their deadline they are unknown.
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(campaign = %open.id, error, tries, "messages that nobody asked for do not wait again yet");
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Gives how many messages changed by the facts.
async fn observe(conn: &mut PgConnection, open: &Open, facts: &[Fact]) -> anyhow::Result<usize> {
    let mut transaction = conn.begin().await?;
    let changed = settle::observe(&mut transaction, open, facts).await?;
    transaction.commit().await?;
    changed.tally.count();
    Ok(changed.rows.len())
}
