use std::time::Duration;

use chrono::Utc;
use contracts::Queue;
use failpoints::Point;
use messaging::{Broker, Destination};
use rand::RngExt as _;
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection, PgPool};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Error, JobKind, metrics::metrics};

/// Jobs nudged in one transaction.
const BATCH: i64 = 500;
/// Longer than a sweep takes, whose statements the server ends. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(180);
/// How often the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_secs(10);

/// Nudges, through the outbox, each job of a queue that is due and that nobody holds: one whose worker died, one that
/// was deferred, one whose message was lost. Any number may run at once.
///
/// A nudge that stays unanswered is repeated only where messages are missing: while the queue and the outbox hold one
/// for each job that waits, a long line needs no more of them, and its length says how much there is to do. Even
/// then, it may stay unanswered for as long as the kind's lease. The pause doubles with every unanswered nudge, up to
/// 32 times that.
pub struct Sweeper {
    pool: PgPool,
    broker: Broker,
    queue: &'static Queue,
    /// Those whose messages go there.
    kinds: Vec<JobKind>,
}

impl Sweeper {
    /// Sweeps the jobs of the `kinds` whose messages go to `queue`.
    pub fn new(pool: PgPool, broker: Broker, queue: &'static Queue, kinds: Vec<JobKind>) -> Self {
        Self { pool, broker, queue, kinds }
    }

    /// Looks about once a second, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut away = false;
        let mut sample_at = Instant::now();
        loop {
            // A look at a broker that does not answer takes its time: whoever ends does not wait for it.
            let sweep = timeout(UNANSWERED, self.sweep());
            let Some(swept) = shutdown.run_until_cancelled(sweep).await else { return };
            match swept.unwrap_or(Err(sqlx::Error::PoolTimedOut.into())) {
                Ok(_) => away = false,
                Err(error) if !away => {
                    away = true;
                    tracing::warn!(queue = self.queue.name, %error, "could not sweep, will keep trying");
                }
                Err(_) => {}
            }
            if !away && sample_at <= Instant::now() {
                sample_at = Instant::now() + SAMPLE;
                match timeout(UNANSWERED, self.sample()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "jobs not counted"),
                    Err(_) => tracing::debug!("jobs not counted: the database does not answer"),
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
        for kind in &self.kinds {
            loop {
                let mut transaction = self.pool.begin().await?;
                let batch = nudge(&mut transaction, kind, "nudged_at IS NULL", BATCH).await?;
                failpoints::hit(Point::SweepWritten);
                transaction.commit().await?;
                swept += batch as u64;
                if batch < BATCH as usize {
                    break;
                }
            }
        }
        loop {
            let batch = self.repeat().await?;
            swept += batch;
            if batch < BATCH as u64 {
                return Ok(swept);
            }
        }
    }

    /// Nudges again those that wait for longest, as many as the queue lacks messages. One process at a time.
    async fn repeat(&self) -> Result<u64, Error> {
        let names: Vec<_> = self.kinds.iter().map(|kind| kind.name).collect();
        let leases: Vec<_> = self.kinds.iter().map(|kind| kind.lease.as_secs_f64()).collect();
        let mut transaction = self.pool.begin().await?;
        let mine: bool = sqlx::query_scalar(
            "SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' sweep ' || $1, 0))",
        )
        .bind(self.queue.name)
        .fetch_one(&mut *transaction)
        .await?;
        let unanswered: bool = mine
            && sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT EXISTS (SELECT FROM jobs JOIN unnest($1::text[], $2::float8[]) AS k (kind, lease) USING (kind)
                                WHERE {DUE} AND nudged_at <= clock_timestamp() - {PAUSE})"
            )))
            .bind(&names)
            .bind(&leases)
            .fetch_one(&mut *transaction)
            .await?;
        if !unanswered {
            return Ok(0);
        }
        // In the way of a message, and the jobs last: what moves on between the counts makes fewer messages seem to be
        // missing, not more.
        let unsent: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox WHERE destination = $1")
            .bind(Destination::from(self.queue).to_string())
            .fetch_one(&mut *transaction)
            .await?;
        let ready = match self.broker.depth(self.queue).await {
            Ok(depth) => depth.ready,
            Err(error) => {
                // What it lacks shows when it can be asked again.
                tracing::warn!(queue = self.queue.name, %error, "unanswered nudges are not repeated");
                return Ok(0);
            }
        };
        let waiting: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT count(*) FROM jobs WHERE kind = ANY($1) AND {DUE} AND nudged_at < now()"
        )))
        .bind(&names)
        .fetch_one(&mut *transaction)
        .await?;
        let mut missing = waiting - unsent - i64::try_from(ready).unwrap_or(i64::MAX);
        let mut swept = 0;
        for kind in &self.kinds {
            let unanswered = format!(
                "nudged_at <= clock_timestamp() - {}",
                PAUSE.replace("lease", &kind.lease.as_secs_f64().to_string())
            );
            let batch = nudge(&mut transaction, kind, &unanswered, missing.clamp(0, BATCH)).await?;
            missing -= batch as i64;
            swept += batch as u64;
        }
        failpoints::hit(Point::SweepWritten);
        transaction.commit().await?;
        Ok(swept)
    }

    /// Counts the jobs, and looks since when the oldest waits: that is known of a queue that nobody consumes, too.
    async fn sample(&self) -> Result<(), Error> {
        let mut oldest = None;
        for kind in &self.kinds {
            let (pending, running, waits): (i64, i64, Option<f64>) = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'running'),
                        extract(epoch FROM clock_timestamp() - min(greatest(next_run_at, lease_until))
                            FILTER (WHERE {DUE}))::float8
                 FROM jobs WHERE kind = $1 AND state IN ('pending', 'running')"
            )))
            .bind(kind.name)
            .fetch_one(&self.pool)
            .await?;
            metrics().live.with_label_values(&[kind.name, "pending"]).set(pending);
            metrics().live.with_label_values(&[kind.name, "running"]).set(running);
            let since = waits
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(|age| Utc::now() - age);
            oldest = [oldest, since].into_iter().flatten().min();
        }
        self.broker.jobs_wait(self.queue, oldest);
        Ok(())
    }
}

/// A job that somebody should run now, and that nobody holds.
const DUE: &str = "next_run_at <= clock_timestamp() AND state IN ('pending', 'running')
    AND (state = 'pending' OR lease_until <= clock_timestamp())";

/// How long a nudge may stay unanswered, of a kind whose lease is so many seconds.
const PAUSE: &str = "make_interval(secs => lease * 2 ^ least(greatest(nudges - 1, 0), 5))";

/// Nudges jobs of a kind that are due and `which`, those first that are due for longest. A row that another sweeper has
/// locked is skipped; one that it has just nudged is looked at again as it is now. Returns how many.
async fn nudge(conn: &mut PgConnection, kind: &JobKind, which: &str, most: i64) -> Result<usize, Error> {
    if most == 0 {
        return Ok(0);
    }
    let ids: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(format!(
        "UPDATE jobs SET nudged_at = clock_timestamp(), nudges = nudges + 1
         WHERE id = ANY (ARRAY(
             SELECT id FROM jobs WHERE kind = $1 AND {DUE} AND {which}
             ORDER BY next_run_at LIMIT $2 FOR UPDATE SKIP LOCKED))
         RETURNING id"
    )))
    .bind(kind.name)
    .bind(most)
    .fetch_all(&mut *conn)
    .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    kind.nudge(conn, &ids, None).await?;
    tracing::info!(kind = kind.name, jobs = ids.len(), "nudged jobs that are due and nobody holds");
    metrics().swept.with_label_values(&[kind.name]).inc_by(ids.len() as u64);
    Ok(ids.len())
}
