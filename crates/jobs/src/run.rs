use std::time::Duration;

use async_trait::async_trait;
use failpoints::Point;
use messaging::{Backoff, JobError};
use rand::RngExt as _;
use sea_orm::sqlx::{PgConnection, PgPool};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use crate::{
    Activities, Claim, Error, Job, JobKind, Lease, Position, Progress, Standing, State,
    metrics::metrics,
    stop::{Stop, Why},
    workers,
};

/// How long work may take to stop at its next checkpoint before its future is dropped.
const GRACE: Duration = Duration::from_secs(10);

/// The work of one kind of job.
///
/// It reads where to go on from `run.job.checkpoint`, and then, batch after batch, in one transaction
/// each: writes its rows, calls [`JobRun::checkpoint`], commits, and calls [`JobRun::proceed`]. It may be
/// dropped at any await.
#[async_trait]
pub trait Work: Send + Sync {
    /// Does the job. A transient error ([`JobError::Retry`]) defers it, a permanent one
    /// ([`JobError::Fail`]) fails it.
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError>;

    /// Writes what the domain has to say about the job's end (its event, a file's state), in the
    /// transaction that ends it. `job` is the ended row: its state says how, its version is the event's.
    /// Called for every end that the runner writes: completed, failed (also when the attempts are used
    /// up, or its workers died too often) and cancelled.
    ///
    /// # Errors
    /// The job's end is rolled back and tried again by a later worker.
    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()>;

    /// Once, after the transaction in which [`Work::ended`] wrote has committed: for counters, which must not count what is
    /// rolled back. Skipped by a crash, like all that a counter of a process has counted.
    async fn committed(&self, _job: &Job) {}

    /// After each message about a job of this kind, however its run went: for what needs no transaction, such as showing
    /// people where the job stands now. May be skipped by a crash or a deadline.
    async fn after(&self, _job: Uuid) {}
}

/// How work that went well left its job.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Nothing is left to do: the runner completes the job with this result.
    Done(Value),
    /// The work has ended the job itself, in a transaction of its own, with [`crate::complete`] or
    /// [`crate::fail`]; or it has given it back with [`crate::postpone`].
    Written,
}

/// A job that this process holds.
#[derive(Clone, Debug)]
pub struct JobRun {
    /// The row as it was claimed.
    pub job: Job,
    /// The right to write to it.
    pub lease: Lease,
    stop: Stop,
}

impl JobRun {
    /// [`crate::checkpoint`], for use with `?`: a lost lease stops the work. Returns the row's version.
    ///
    /// # Errors
    /// What the work must return at once, after rolling back.
    pub async fn checkpoint(
        &self,
        conn: &mut PgConnection,
        checkpoint: &Value,
        position: Position,
        progress: &Progress,
    ) -> Result<i64, JobError> {
        self.heed(crate::checkpoint(conn, &self.lease, checkpoint, position, progress).await)
    }

    /// [`crate::progress`], for use with `?`: a lost lease stops the work. Returns the row's version.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn progress(&self, conn: &mut PgConnection, progress: &Progress) -> Result<i64, JobError> {
        self.heed(crate::progress(conn, &self.lease, progress).await)
    }

    /// Asks the row whether this run still holds its job, and extends the lease. For what no transaction can fence,
    /// such as deleting what earlier holders stored: what was seen before this answers, no later holder stored.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn confirm(&self, conn: &mut PgConnection) -> Result<(), JobError> {
        self.heed(crate::heartbeat(conn, &self.lease).await).map(drop)
    }

    fn heed(&self, standing: Result<Standing, Error>) -> Result<i64, JobError> {
        match standing {
            Ok(standing) => {
                if standing.cancel_requested {
                    self.stop.request(Why::Cancel);
                }
                Ok(standing.version)
            }
            Err(Error::LeaseLost) => {
                self.stop.request(Why::Lost);
                Err(JobError::Release)
            }
            Err(error) => Err(JobError::retry(error)),
        }
    }

    /// Whether to go on with the next batch: not where a cancel was asked for, the lease was lost, or the
    /// process drains. The runner knows which and does what follows.
    ///
    /// # Errors
    /// What the work must return at once.
    pub fn proceed(&self) -> Result<(), JobError> {
        if self.stop.token.is_cancelled() { Err(JobError::Release) } else { Ok(()) }
    }

    /// Cancelled when [`JobRun::proceed`] would stop the work: for waits, and for threads that read ahead.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop.token
    }
}

/// Runs jobs in this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Runner {
    pool: PgPool,
    owner: String,
    /// The only kind whose jobs it runs; none: whatever the caller has the work for.
    kind: Option<&'static str>,
    lease: Duration,
    /// How long one attempt may work.
    deadline: Duration,
    backoff: Backoff,
    activities: Activities,
}

impl Runner {
    /// With leases of 60 s, no deadline and the default backoff between attempts.
    pub fn new(pool: PgPool) -> Self {
        let owner = format!("{}:{}", workers::host(), std::process::id());
        Self {
            pool,
            owner,
            kind: None,
            lease: Duration::from_secs(60),
            deadline: Duration::MAX,
            backoff: Backoff::default(),
            activities: Activities::default(),
        }
    }

    /// For jobs of `kind` alone, as it says that they are run; what they do is noted in `activities`.
    pub(crate) fn of(pool: PgPool, kind: &JobKind, activities: Activities) -> Self {
        let (lease, backoff) = (kind.lease, kind.backoff.clone());
        let deadline = kind.deadline;
        Self { kind: Some(kind.name), lease, deadline, backoff, activities, ..Self::new(pool) }
    }

    /// How long a lease lasts: after a worker's death its job waits for so long. Extended three times in
    /// that time.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// The pauses between attempts that failed without progress.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// What this process works on, for its [`workers::Announcer`].
    pub fn activities(&self) -> Activities {
        self.activities.clone()
    }

    /// Claims the job and runs its work. [`crate::Jobs`] calls this for each message; a command line that runs its own
    /// job calls it itself.
    ///
    /// `Ok` acknowledges the message: the job has ended, or was deferred (the sweeper nudges it when it is
    /// due), or somebody else holds it (the sweeper notices if they die).
    ///
    /// # Errors
    /// [`JobError::Release`] where the process drains; [`JobError::Retry`] where the database could not be
    /// reached; [`JobError::Fail`] where there is no such job.
    pub async fn run(&self, id: Uuid, shutdown: &CancellationToken, work: &dyn Work) -> Result<(), JobError> {
        if shutdown.is_cancelled() {
            return Err(JobError::Release);
        }
        let Some((job, lease)) = self.claim(id, work).await? else { return Ok(()) };
        failpoints::hit(Point::JobClaimed);
        let _activity = self.activities.begin(&job.kind, id);
        let run = JobRun { job, lease, stop: Stop::default() };
        if run.job.cancel_requested_at.is_some() {
            run.stop.request(Why::Cancel);
        }
        let result = self.supervise(&run, shutdown, work).await;
        self.settle(&run, result, work).await
    }

    /// Takes the job, or ends it where its workers died too often.
    async fn claim(&self, id: Uuid, work: &dyn Work) -> Result<Option<(Job, Lease)>, JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let claim = crate::claim(&mut transaction, id, &self.owner, self.lease).await;
        let claim = claim.map_err(JobError::retry)?;
        if let (Some(kind), Claim::Claimed(job, _) | Claim::Exhausted(job, _)) = (self.kind, &claim)
            && job.kind != kind
        {
            return Err(JobError::Fail(anyhow::anyhow!("job {id} is of the kind {}, not {kind}", job.kind)));
        }
        match claim {
            Claim::Claimed(job, lease) => {
                transaction.commit().await.map_err(JobError::retry)?;
                tracing::info!(job = %id, kind = job.kind, epoch = job.epoch, attempt = job.attempts, "job claimed");
                Ok(Some((job, lease)))
            }
            Claim::Exhausted(job, lease) => {
                let error = match &job.error {
                    Some(last) => {
                        format!("worker died {} times without progress; before that: {last}", job.attempts)
                    }
                    None => format!("worker died {} times without progress", job.attempts),
                };
                let ended = crate::fail(&mut transaction, &lease, &error).await.map_err(JobError::retry)?;
                self.finish(transaction, &ended, work).await.map_err(JobError::Retry)?;
                Ok(None)
            }
            Claim::Busy { until } => {
                tracing::debug!(job = %id, %until, "somebody else holds the job");
                Ok(None)
            }
            Claim::Finished(job) => {
                tracing::debug!(job = %id, state = job.state.name(), "the job has ended already");
                Ok(None)
            }
            Claim::NotDue => Ok(None),
            Claim::Missing => Err(JobError::Fail(anyhow::anyhow!("there is no job {id}"))),
        }
    }

    /// Runs the work beside a heartbeat. None: the work was dropped.
    async fn supervise(
        &self,
        run: &JobRun,
        shutdown: &CancellationToken,
        work: &dyn Work,
    ) -> Option<Result<Outcome, JobError>> {
        // Asked for before it began: there is nothing to do.
        if run.stop.why() == Some(Why::Cancel) {
            return None;
        }
        // A task of its own, so that work that is slow to yield does not lose its lease.
        let heartbeat = tokio::spawn(heartbeats(self.pool.clone(), run.lease.clone(), run.stop.clone()));
        let _heartbeat = AbortOnDropHandle::new(heartbeat);
        let told_too_late = async {
            tokio::select! {
                () = shutdown.cancelled() => run.stop.request(Why::Drain),
                () = run.stop.token.cancelled() => {}
            }
            sleep(GRACE).await;
        };
        let late = || Err(JobError::Retry(exceeded(self.deadline)));
        tokio::select! {
            result = timeout(self.deadline, work.work(run)) => Some(result.unwrap_or_else(|_| late())),
            () = run.stop.lost.cancelled() => None,
            () = told_too_late => None,
        }
    }

    /// Writes what became of the job.
    async fn settle(
        &self,
        run: &JobRun,
        result: Option<Result<Outcome, JobError>>,
        work: &dyn Work,
    ) -> Result<(), JobError> {
        let (id, kind) = (run.job.id, run.job.kind.as_str());
        let count = |outcome| metrics().outcomes.with_label_values(&[kind, outcome]).inc();
        let settled = match (result, run.stop.why()) {
            (Some(Ok(Outcome::Written)), _) => {
                count("written");
                failpoints::hit(Point::JobFinished);
                return Ok(());
            }
            (Some(Ok(Outcome::Done(result))), _) => self.end(run, End::Completed(&result), work).await,
            (Some(Err(JobError::Fail(error))), _) => self.end(run, End::Failed(&error), work).await,
            (_, Some(Why::Lost)) => Err(Error::LeaseLost.into()),
            (_, Some(Why::Cancel)) => self.end(run, End::Cancelled, work).await,
            (Some(Err(JobError::Retry(error))), _) => self.end(run, End::Deferred(&error), work).await,
            (Some(Err(JobError::Release)) | None, _) => {
                let released = async {
                    let mut conn = self.pool.acquire().await?;
                    crate::release(&mut conn, &run.lease).await
                };
                match released.await {
                    Ok(_) => {
                        count("released");
                        tracing::info!(job = %id, kind, "job released for another worker");
                    }
                    Err(error) => {
                        tracing::warn!(job = %id, kind, %error, "job not released, its lease will lapse")
                    }
                }
                return Err(JobError::Release);
            }
        };
        match settled {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.downcast_ref(), Some(Error::LeaseLost)) => {
                count("lost");
                tracing::warn!(job = %id, kind, epoch = run.lease.epoch, "lease lost, the work was stopped");
                Ok(())
            }
            // The lease lapses, or this message comes back after it has: the job goes on either way.
            Err(error) => Err(JobError::Retry(error.context(format!("the end of job {id} was not written")))),
        }
    }

    /// Writes the end (or the deferral) with what the domain says to it, in one transaction.
    async fn end(&self, run: &JobRun, end: End<'_>, work: &dyn Work) -> anyhow::Result<()> {
        let mut transaction = self.pool.begin().await?;
        let conn = &mut *transaction;
        let job = match end {
            End::Completed(result) => crate::complete(conn, &run.lease, result).await?,
            End::Failed(error) => crate::fail(conn, &run.lease, &format!("{error:#}")).await?,
            End::Cancelled => crate::cancelled(conn, &run.lease).await?,
            End::Deferred(error) => {
                let attempt = crate::get(conn, run.job.id).await?.map_or(1, |job| job.attempts.max(1));
                let pause =
                    self.backoff.after(attempt.unsigned_abs()).mul_f64(rand::rng().random_range(0.8..1.0));
                crate::defer(conn, &run.lease, &format!("{error:#}"), pause).await?
            }
        };
        if job.state == State::Pending {
            transaction.commit().await?;
            metrics().outcomes.with_label_values(&[&job.kind, "deferred"]).inc();
            tracing::warn!(
                job = %job.id, kind = job.kind, attempt = job.attempts, next_run_at = %job.next_run_at,
                error = job.error, "job deferred"
            );
            return Ok(());
        }
        self.finish(transaction, &job, work).await
    }

    /// Commits an end together with what the domain says to it.
    async fn finish(
        &self,
        mut transaction: sea_orm::sqlx::PgTransaction<'_>,
        job: &Job,
        work: &dyn Work,
    ) -> anyhow::Result<()> {
        work.ended(&mut transaction, job).await?;
        failpoints::hit(Point::JobFinishing);
        transaction.commit().await?;
        failpoints::hit(Point::JobFinished);
        metrics().outcomes.with_label_values(&[&job.kind, job.state.name()]).inc();
        work.committed(job).await;
        match &job.error {
            Some(error) if job.state == State::Failed => {
                tracing::warn!(job = %job.id, kind = job.kind, attempt = job.attempts, error, "job failed");
            }
            _ => tracing::info!(job = %job.id, kind = job.kind, state = job.state.name(), "job ended"),
        }
        Ok(())
    }
}

enum End<'a> {
    Completed(&'a Value),
    Failed(&'a anyhow::Error),
    Cancelled,
    Deferred(&'a anyhow::Error),
}

fn exceeded(deadline: Duration) -> anyhow::Error {
    anyhow::anyhow!("the job exceeded its deadline of {} s", deadline.as_secs_f64())
}

/// Extends the lease three times in its length, until it is lost. If the database can't be reached for as
/// long as a lease lasts, it counts as lost: somebody else may have it by now.
async fn heartbeats(pool: PgPool, lease: Lease, stop: Stop) {
    let interval = lease.length / 3;
    let mut held_until = Instant::now() + lease.length;
    let mut pause = interval;
    loop {
        sleep(pause).await;
        let asked_at = Instant::now();
        let beat = async {
            let mut conn = pool.acquire().await?;
            crate::heartbeat(&mut conn, &lease).await
        };
        match timeout(interval, beat).await {
            Ok(Ok(standing)) => {
                held_until = asked_at + lease.length;
                pause = interval;
                if standing.cancel_requested {
                    stop.request(Why::Cancel);
                }
            }
            Ok(Err(Error::LeaseLost)) => return stop.request(Why::Lost),
            Ok(Err(_)) | Err(_) if Instant::now() >= held_until => {
                tracing::warn!(job = %lease.job, "the lease could not be extended in time");
                return stop.request(Why::Lost);
            }
            Ok(Err(error)) => {
                tracing::debug!(job = %lease.job, %error, "heartbeat failed, will try again");
                pause = interval / 5;
            }
            Err(_) => pause = interval / 5,
        }
    }
}
