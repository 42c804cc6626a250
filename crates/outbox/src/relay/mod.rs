mod batch;
mod lanes;

use std::time::Duration;

use messaging::Broker;
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{Error, hint, metrics::sample};
use lanes::Lanes;

/// How often the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_secs(10);
/// Longer than a batch takes, whose statements the server ends. A server whose host is gone ends nothing, and its
/// connection may not say so for ever.
const UNANSWERED: Duration = Duration::from_secs(180);

/// What the database answers, or an error in its place.
async fn answered<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(UNANSWERED, asked).await.unwrap_or(Err(Error::Database(sqlx::Error::PoolTimedOut)))
}

/// Publishes what the outbox holds, with confirms, and deletes what the broker confirmed.
///
/// Any number may run at once: a batch's rows are locked (`FOR UPDATE SKIP LOCKED`) from claim to
/// deletion, in one transaction, so a relay that dies gives them back, and what it had published is
/// published again. A batch that the broker is slow to confirm goes on without a transaction: its rows are
/// leased, and come back to others when the lease is not renewed.
///
/// Destinations take turns of a batch each, so that none waits for one that is always busy, or whose broker is
/// away, or whose messages are refused.
pub struct Relay {
    pool: PgPool,
    broker: Broker,
}

impl Relay {
    /// Relays the outbox in the pool's schema.
    pub fn new(pool: PgPool, broker: Broker) -> Self {
        Self { pool, broker }
    }

    /// Returns when `shutdown` is cancelled and the batches under way are settled.
    pub async fn run(self, shutdown: CancellationToken) {
        let (hint, _listener) = hint::listen(self.pool.clone());
        let _sampler = AbortOnDropHandle::new(tokio::spawn(keep_sampling(self.pool.clone())));
        let mut lanes = Lanes::new(self.pool.clone(), self.broker);
        let mut database_down = false;
        let mut lively_until = Instant::now();
        let mut poll_at = Instant::now();
        while !shutdown.is_cancelled() {
            if poll_at <= Instant::now() {
                match answered(destinations(&self.pool)).await {
                    Ok(destinations) => {
                        if std::mem::take(&mut database_down) {
                            tracing::info!("outbox: the database is back");
                        }
                        lanes.due(destinations);
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut database_down, true) {
                            tracing::warn!(%error, "outbox: the database is away, will keep trying");
                        }
                    }
                }
                // Rows that were written while the last hint was young came without one: look again soon.
                let pause = if Instant::now() < lively_until {
                    hint::INTERVAL * 2
                } else {
                    Duration::from_millis(rand::rng().random_range(500..1000))
                };
                poll_at = Instant::now() + pause;
            }
            lanes.start();
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = hint.notified() => {
                    lively_until = Instant::now() + hint::INTERVAL * 4;
                    poll_at = Instant::now();
                }
                () = sleep_until(poll_at) => {}
                Some(worked) = lanes.ended() => {
                    if worked {
                        lively_until = Instant::now() + hint::INTERVAL * 4;
                        poll_at = poll_at.min(Instant::now() + hint::INTERVAL * 2);
                    }
                }
            }
        }
        lanes.drain().await;
    }
}

async fn keep_sampling(pool: PgPool) {
    loop {
        if let Err(error) = sample(&pool).await {
            tracing::debug!(%error, "outbox not measured");
        }
        sleep(SAMPLE).await;
    }
}

/// The destinations that have rows due. A loose index scan: one step a destination, whatever the backlog.
async fn destinations(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "WITH RECURSIVE each AS (
             (SELECT destination FROM outbox ORDER BY destination LIMIT 1)
             UNION ALL
             SELECT (SELECT o.destination FROM outbox o WHERE o.destination > each.destination
                     ORDER BY o.destination LIMIT 1)
             FROM each WHERE each.destination IS NOT NULL)
         SELECT destination FROM each
         WHERE EXISTS (SELECT 1 FROM outbox o WHERE o.destination = each.destination AND o.next_at <= now())",
    )
    .fetch_all(pool)
    .await?)
}
