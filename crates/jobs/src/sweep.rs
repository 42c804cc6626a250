use std::time::Duration;

use failpoints::Point;
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, JobKind, metrics::metrics};

/// Jobs nudged in one transaction.
const BATCH: i64 = 500;
/// How often the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_secs(10);

/// Nudges again, through the outbox, each job of a kind that is due and that nobody holds: one whose
/// worker died, one that was deferred, one whose message was lost. Any number may run at once.
///
/// A nudge may stay unanswered for as long as the kind's lease before the next is sent. The pause doubles with every
/// unanswered nudge, up to 32 times that: a job that waits its turn in a long queue needs no more messages.
pub struct Sweeper {
    pool: PgPool,
    kind: JobKind,
}

impl Sweeper {
    /// Sweeps the jobs of `kind`.
    pub fn new(pool: PgPool, kind: JobKind) -> Self {
        Self { pool, kind }
    }

    /// Looks about once a second, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut away = false;
        let mut sample_at = Instant::now();
        loop {
            match self.sweep().await {
                Ok(_) => away = false,
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(kind = self.kind.name, %error, "could not sweep, will keep trying");
                }
                Err(_) => {}
            }
            if !away && sample_at <= Instant::now() {
                sample_at = Instant::now() + SAMPLE;
                if let Err(error) = self.sample().await {
                    tracing::debug!(%error, "jobs not counted");
                }
            }
            let pause = Duration::from_millis(rand::rng().random_range(500..1000));
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Looks once. Returns how many jobs it nudged.
    ///
    /// # Errors
    /// The database.
    pub async fn sweep(&self) -> Result<u64, Error> {
        let mut swept = 0;
        loop {
            let batch = self.sweep_batch().await?;
            swept += batch as u64;
            if batch < BATCH as usize {
                return Ok(swept);
            }
        }
    }

    async fn sweep_batch(&self) -> Result<usize, Error> {
        let mut transaction = self.pool.begin().await?;
        // A row that another sweeper has locked is skipped; one that it has just nudged is looked at again
        // as it is now, and is not due for another.
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "UPDATE jobs SET nudged_at = clock_timestamp(), nudges = nudges + 1
             WHERE id = ANY (ARRAY(
                 SELECT id FROM jobs
                 WHERE kind = $1 AND next_run_at <= clock_timestamp() AND state IN ('pending', 'running')
                   AND (state = 'pending' OR lease_until <= clock_timestamp())
                   AND (nudged_at IS NULL
                        OR nudged_at <= clock_timestamp() - make_interval(secs => $2 * 2 ^ least(greatest(nudges - 1, 0), 5)))
                 ORDER BY next_run_at LIMIT $3 FOR UPDATE SKIP LOCKED))
             RETURNING id",
        )
        .bind(self.kind.name)
        .bind(self.kind.lease.as_secs_f64())
        .bind(BATCH)
        .fetch_all(&mut *transaction)
        .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        self.kind.nudge(&mut transaction, &ids, None).await?;
        failpoints::hit(Point::SweepWritten);
        transaction.commit().await?;
        tracing::info!(kind = self.kind.name, jobs = ids.len(), "nudged jobs that are due and nobody holds");
        metrics().swept.with_label_values(&[self.kind.name]).inc_by(ids.len() as u64);
        Ok(ids.len())
    }

    async fn sample(&self) -> Result<(), Error> {
        let counts: (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running')
             FROM jobs WHERE kind = $1 AND state IN ('pending', 'running')",
        )
        .bind(self.kind.name)
        .fetch_one(&self.pool)
        .await?;
        metrics().live.with_label_values(&[self.kind.name, "pending"]).set(counts.0);
        metrics().live.with_label_values(&[self.kind.name, "running"]).set(counts.1);
        Ok(())
    }
}
