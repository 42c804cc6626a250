//! The runner: claim, heartbeat, work, end.

mod common;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use common::{PATIENCE, World};
use contracts::catalog::v1::{ImportCompleted, ImportFailed};
use jobs::{Job, JobRun, Outcome, Position, Progress, Runner, State, Work, request_cancel};
use messaging::{Backoff, JobError};
use outbox::Meta;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the work does after its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Done,
    Fail,
    Retry,
    /// Ends the job in a transaction of its own.
    Itself,
    /// Goes on for ever, looking at each checkpoint whether to stop.
    Loop,
    /// Goes on for ever without looking.
    Hang,
    /// Its domain can't write the end.
    BrokenEnd,
}

/// An import in small: three batches of rows with a checkpoint each, then what the test wants.
struct Import {
    pool: PgPool,
    then: Then,
    batches: AtomicUsize,
    ended: Arc<Mutex<Vec<State>>>,
    /// Ends that have committed.
    committed: Arc<Mutex<Vec<State>>>,
    dropped: Arc<AtomicUsize>,
}

struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Import {
    fn new(world: &World, then: Then) -> Self {
        Self {
            pool: world.pool.clone(),
            then,
            batches: AtomicUsize::new(0),
            ended: Arc::default(),
            committed: Arc::default(),
            dropped: Arc::default(),
        }
    }

    fn commits(&self) -> Vec<State> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ends(&self) -> Vec<State> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn batch(&self, run: &JobRun, row: i64) -> Result<(), JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        sqlx::query("INSERT INTO effect (n) VALUES ($1)")
            .bind(row)
            .execute(&mut *transaction)
            .await
            .map_err(JobError::retry)?;
        let progress = Progress { total: Some(3), processed: row, successful: row, failed: 0 };
        run.checkpoint(&mut transaction, &json!({"row": row}), Position::new(0, row), &progress).await?;
        transaction.commit().await.map_err(JobError::retry)?;
        self.batches.fetch_add(1, Ordering::SeqCst);
        run.proceed()
    }
}

#[async_trait]
impl Work for Import {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let _dropped = CountDrop(self.dropped.clone());
        let from = run.job.checkpoint.as_ref().and_then(|checkpoint| checkpoint["row"].as_i64()).unwrap_or(0);
        for row in from + 1..=3 {
            self.batch(run, row).await?;
        }
        match self.then {
            Then::Done | Then::BrokenEnd => Ok(Outcome::Done(json!({"rows": 3}))),
            Then::Fail => Err(JobError::fail(anyhow::anyhow!("boom").context("row 4"))),
            Then::Retry => Err(JobError::retry(anyhow::anyhow!("S3 is away"))),
            Then::Itself => {
                let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
                jobs::complete(&mut transaction, &run.lease, &json!("itself"))
                    .await
                    .map_err(JobError::retry)?;
                transaction.commit().await.map_err(JobError::retry)?;
                Ok(Outcome::Written)
            }
            Then::Loop => {
                run.stopping().cancelled().await;
                run.proceed()?;
                Ok(Outcome::Done(Value::Null))
            }
            Then::Hang => std::future::pending().await,
        }
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        anyhow::ensure!(self.then != Then::BrokenEnd, "the domain can't say so");
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(job.state);
        let (task_id, version) = (job.id.to_string(), job.version.unsigned_abs());
        let meta = Meta::about(job.id);
        if job.state == State::Completed {
            let event = ImportCompleted { task_id, version, ..Default::default() };
            outbox::publish(conn, "test", &event, meta).await?;
        } else {
            let reason = job.error.clone().unwrap_or_else(|| "cancelled".into());
            let event = ImportFailed { task_id, version, reason, ..Default::default() };
            outbox::publish(conn, "test", &event, meta).await?;
        }
        Ok(())
    }

    async fn committed(&self, job: &Job) {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).push(job.state);
    }
}

struct Case {
    world: World,
    id: Uuid,
    shutdown: CancellationToken,
}

impl Case {
    async fn new(label: &str, max_attempts: i32) -> Result<Self> {
        let world = World::new(label).await?;
        sqlx::query("CREATE TABLE effect (n bigint PRIMARY KEY)").execute(&world.pool).await?;
        let id = world.job(max_attempts).await?;
        Ok(Self { world, id, shutdown: CancellationToken::new() })
    }

    fn runner(&self) -> Runner {
        Runner::new(self.world.pool.clone()).backoff(Backoff { steps: vec![Duration::from_secs(3600)] })
    }

    async fn run(&self, import: &Import) -> Result<(), JobError> {
        self.runner().run(self.id, &self.shutdown, import).await
    }

    /// Runs in the background, with a lease that a busy machine keeps, too.
    fn spawn(&self, import: &Arc<Import>) -> tokio::task::JoinHandle<Result<(), JobError>> {
        let runner = self.runner().lease(Duration::from_secs(1));
        let (id, shutdown, import) = (self.id, self.shutdown.clone(), import.clone());
        tokio::spawn(async move { runner.run(id, &shutdown, &*import).await })
    }

    async fn until_batches(&self, import: &Import, batches: usize) -> Result<()> {
        stack::wait::until("the batches are written", PATIENCE, || async {
            import.batches.load(Ordering::SeqCst) >= batches
        })
        .await
    }

    async fn job(&self) -> Result<Job> {
        self.world.get(self.id).await
    }

    /// The events in the outbox: kind, version, reason.
    async fn events(&self) -> Result<Vec<(String, i64, Option<String>)>> {
        Ok(sqlx::query_as(
            "SELECT kind, (body::jsonb -> 'data' ->> 'version')::bigint, body::jsonb -> 'data' ->> 'reason'
             FROM outbox ORDER BY id",
        )
        .fetch_all(&self.world.pool)
        .await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_done_completes_its_job_with_its_event() -> Result<()> {
    let case = Case::new("run_done", 3).await?;
    let import = Import::new(&case.world, Then::Done);
    assert!(case.run(&import).await.is_ok());
    let job = case.job().await?;
    assert_eq!((job.state, job.result), (State::Completed, Some(json!({"rows": 3}))));
    assert_eq!(job.progress, Progress { total: Some(3), processed: 3, successful: 3, failed: 0 });
    assert_eq!(import.ends(), [State::Completed]);
    assert_eq!(case.events().await?, [("lote.catalog.v1.ImportCompleted".into(), job.version, None)]);
    assert_eq!(import.commits(), [State::Completed]);
    // The message comes again: nothing happens.
    assert!(case.run(&import).await.is_ok());
    assert_eq!(import.batches.load(Ordering::SeqCst), 3);
    assert_eq!(case.events().await?.len(), 1);
    assert_eq!(import.commits(), [State::Completed], "counted once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_may_end_its_job_itself() -> Result<()> {
    let case = Case::new("run_itself", 3).await?;
    let import = Import::new(&case.world, Then::Itself);
    assert!(case.run(&import).await.is_ok());
    assert_eq!(case.job().await?.result, Some(json!("itself")));
    assert_eq!(import.ends(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanent_failure_fails_the_job_with_its_event() -> Result<()> {
    let case = Case::new("run_fail", 3).await?;
    let import = Import::new(&case.world, Then::Fail);
    assert!(case.run(&import).await.is_ok());
    let job = case.job().await?;
    assert_eq!((job.state, job.error.as_deref()), (State::Failed, Some("row 4: boom")));
    let event = ("lote.catalog.v1.ImportFailed".into(), job.version, Some("row 4: boom".into()));
    assert_eq!(case.events().await?, [event]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transient_failure_defers_the_job_and_fails_it_in_the_end() -> Result<()> {
    let case = Case::new("run_retry", 2).await?;
    let import = Import::new(&case.world, Then::Retry);
    assert!(case.run(&import).await.is_ok());
    let job = case.job().await?;
    assert_eq!((job.state, job.attempts, job.error.as_deref()), (State::Pending, 0, Some("S3 is away")));
    assert!(job.next_run_at > job.updated_at + Duration::from_secs(2000));
    assert!(case.run(&import).await.is_ok(), "the message is taken, the sweeper sends the next");
    assert_eq!(case.job().await?, job, "it is not due");
    for attempt in 1..=2 {
        assert_eq!(case.events().await?, []);
        case.world.make_due(case.id).await?;
        assert!(case.run(&import).await.is_ok());
        assert_eq!(case.job().await?.attempts, attempt);
    }
    let job = case.job().await?;
    assert_eq!(job.state, State::Failed);
    assert_eq!(case.events().await?[0].2.as_deref(), Some("S3 is away"));
    assert_eq!(import.ends(), [State::Failed]);
    assert_eq!(import.commits(), [State::Failed], "what was deferred has not ended");
    assert_eq!(import.batches.load(Ordering::SeqCst), 3, "later attempts went on at the checkpoint");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_workers_die_fails_with_its_event() -> Result<()> {
    let case = Case::new("run_dying", 2).await?;
    for _ in 0..2 {
        case.world.hold(case.id, "dies").await?;
        case.world.lapse(case.id).await?;
    }
    let import = Import::new(&case.world, Then::Done);
    assert!(case.run(&import).await.is_ok());
    let job = case.job().await?;
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.error.as_deref(), Some("worker died 2 times without progress"));
    assert_eq!((import.ends(), case.events().await?.len()), (vec![State::Failed], 1));
    assert_eq!(import.batches.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_job_is_left_to_its_holder_and_a_missing_one_is_a_dead_letter() -> Result<()> {
    let case = Case::new("run_busy", 2).await?;
    case.world.hold(case.id, "another").await?;
    let import = Import::new(&case.world, Then::Done);
    assert!(case.run(&import).await.is_ok());
    assert_eq!(import.batches.load(Ordering::SeqCst), 0);
    assert!(case.job().await?.owner.is_some_and(|owner| owner.starts_with("another:")));
    let missing = case.runner().run(Uuid::now_v7(), &case.shutdown, &import).await;
    assert!(matches!(missing, Err(JobError::Fail(_))), "{missing:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_keeps_the_lease_while_the_work_goes_on() -> Result<()> {
    let case = Case::new("run_heartbeat", 2).await?;
    let import = Arc::new(Import::new(&case.world, Then::Loop));
    let running = case.spawn(&import);
    case.until_batches(&import, 3).await?;
    let first = case.job().await?.lease_until.context("it is held")?;
    stack::wait::until("the lease was extended past three of its lengths", PATIENCE, || async {
        let job = case.job().await;
        job.is_ok_and(|job| job.lease_until.is_some_and(|until| until > first + Duration::from_secs(3)))
    })
    .await?;
    assert_eq!(case.job().await?.epoch, 1);
    case.shutdown.cancel();
    assert!(matches!(running.await?, Err(JobError::Release)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_process_releases_its_job_and_the_next_one_goes_on() -> Result<()> {
    let case = Case::new("run_drain", 1).await?;
    let import = Arc::new(Import::new(&case.world, Then::Loop));
    let running = case.spawn(&import);
    case.until_batches(&import, 3).await?;
    case.shutdown.cancel();
    assert!(matches!(running.await?, Err(JobError::Release)));
    let job = case.job().await?;
    assert_eq!((job.state, job.owner, job.checkpoint), (State::Pending, None, Some(json!({"row": 3}))));
    assert!(matches!(case.run(&import).await, Err(JobError::Release)), "it takes nothing more");

    let next = Import::new(&case.world, Then::Done);
    assert!(case.runner().run(case.id, &CancellationToken::new(), &next).await.is_ok());
    assert_eq!(case.job().await?.state, State::Completed);
    assert_eq!(next.batches.load(Ordering::SeqCst), 0, "it had only the end to write");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_wish_stops_the_work_and_ends_the_job() -> Result<()> {
    let case = Case::new("run_cancel", 3).await?;
    let import = Arc::new(Import::new(&case.world, Then::Loop));
    let running = case.spawn(&import);
    case.until_batches(&import, 3).await?;
    request_cancel(&mut *case.world.pool.acquire().await?, case.id).await?;
    assert!(running.await?.is_ok());
    let job = case.job().await?;
    assert_eq!(job.state, State::Cancelled);
    let event = ("lote.catalog.v1.ImportFailed".into(), job.version, Some("cancelled".into()));
    assert_eq!(case.events().await?, [event]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_cancelled_while_it_waited_ends_without_work() -> Result<()> {
    let case = Case::new("run_cancel_early", 3).await?;
    request_cancel(&mut *case.world.pool.acquire().await?, case.id).await?;
    let import = Import::new(&case.world, Then::Done);
    assert!(case.run(&import).await.is_ok());
    assert_eq!((case.job().await?.state, import.ends()), (State::Cancelled, vec![State::Cancelled]));
    assert_eq!(import.batches.load(Ordering::SeqCst), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_lease_is_lost_is_dropped() -> Result<()> {
    let case = Case::new("run_lost", 3).await?;
    let import = Arc::new(Import::new(&case.world, Then::Hang));
    let running = case.spawn(&import);
    case.until_batches(&import, 3).await?;
    // Taken over by another, as after a pause longer than the lease.
    case.world
        .run("UPDATE jobs SET epoch = epoch + 1, owner = 'another', lease_until = now() + interval '1 hour' WHERE id = $1", case.id)
        .await?;
    assert!(running.await?.is_ok(), "the message is done with: the other works on");
    assert_eq!(import.dropped.load(Ordering::SeqCst), 1);
    let job = case.job().await?;
    assert_eq!((job.state, job.owner.as_deref()), (State::Running, Some("another")));
    assert_eq!((import.ends(), case.events().await?), (vec![], vec![]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_domain_cannot_write_is_no_end() -> Result<()> {
    let case = Case::new("run_broken_end", 3).await?;
    let broken = Import::new(&case.world, Then::BrokenEnd);
    let result = case.run(&broken).await;
    assert!(
        matches!(&result, Err(JobError::Retry(error)) if format!("{error:#}").contains("the domain can't say so"))
    );
    assert_eq!(case.job().await?.state, State::Running, "it was rolled back with the event");
    assert_eq!(broken.commits(), [], "and is not counted");
    case.world.lapse(case.id).await?;
    assert!(case.run(&Import::new(&case.world, Then::Done)).await.is_ok());
    assert_eq!((case.job().await?.state, case.events().await?.len()), (State::Completed, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_works_on_can_be_seen() -> Result<()> {
    let case = Case::new("run_activity", 3).await?;
    let import = Arc::new(Import::new(&case.world, Then::Loop));
    let runner = case.runner();
    let activities = runner.activities();
    let running = tokio::spawn({
        let (id, shutdown, import) = (case.id, case.shutdown.clone(), import.clone());
        async move { runner.run(id, &shutdown, &*import).await }
    });
    case.until_batches(&import, 3).await?;
    let listed = activities.list();
    assert_eq!(
        listed.iter().map(|one| (one.kind.as_str(), one.id)).collect::<Vec<_>>(),
        [(common::KIND, case.id)]
    );
    case.shutdown.cancel();
    assert!(running.await?.is_err());
    assert_eq!(activities.list(), []);
    Ok(())
}

/// Work in phases that are taken again, or looked at, by every attempt, as those of an import of contacts are; it fails
/// for good in one of them.
struct Phases {
    pool: PgPool,
    fails_in: u32,
}

#[async_trait]
impl Work for Phases {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        for phase in 0..=self.fails_in {
            let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
            let checkpoint = json!({"phase": phase, "attempt": run.lease.epoch});
            run.checkpoint(&mut conn, &checkpoint, Position::new(phase, 0), &Progress::default()).await?;
        }
        Err(JobError::retry(anyhow::anyhow!("phase {} fails", self.fails_in)))
    }

    async fn ended(&self, _conn: &mut PgConnection, _job: &Job) -> anyhow::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_for_good_in_any_phase_fails_after_its_attempts_with_growing_pauses() -> Result<()> {
    for fails_in in 0..4 {
        let case = Case::new("run_phases", 3).await?;
        let steps = [100, 1_000, 10_000].map(Duration::from_secs).to_vec();
        let runner = Runner::new(case.world.pool.clone()).backoff(Backoff { steps });
        let work = Phases { pool: case.world.pool.clone(), fails_in };
        let mut pauses = Vec::new();
        while !case.job().await?.state.is_final() {
            assert!(pauses.len() < 10, "it is tried for ever: {pauses:?}");
            case.world.make_due(case.id).await?;
            assert!(runner.run(case.id, &case.shutdown, &work).await.is_ok());
            let job = case.job().await?;
            pauses.push((job.next_run_at - job.updated_at).num_seconds());
        }
        let job = case.job().await?;
        assert_eq!((job.state, job.epoch), (State::Failed, 4), "one that advanced, and three in vain");
        assert_eq!(job.error, Some(format!("phase {fails_in} fails")));
        let steps = [80..=100, 80..=100, 800..=1_000, 8_000..=10_000];
        assert!(steps.iter().zip(&pauses).all(|(step, pause)| step.contains(pause)), "{pauses:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_job_is_another_s_is_told_when_it_asks() -> Result<()> {
    /// Loses its job to another, and asks.
    struct Asks(PgPool);

    #[async_trait]
    impl Work for Asks {
        async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
            let mut conn = self.0.acquire().await.map_err(JobError::retry)?;
            run.confirm(&mut conn).await?;
            sqlx::query("UPDATE jobs SET epoch = epoch + 1, owner = 'another' WHERE id = $1")
                .bind(run.job.id)
                .execute(&self.0)
                .await
                .map_err(JobError::retry)?;
            assert!(matches!(run.confirm(&mut conn).await, Err(JobError::Release)));
            run.proceed()?;
            Ok(Outcome::Done(json!("it went on")))
        }

        async fn ended(&self, _conn: &mut PgConnection, _job: &Job) -> anyhow::Result<()> {
            anyhow::bail!("nothing has ended")
        }
    }

    let case = Case::new("run_confirm", 3).await?;
    assert!(case.runner().run(case.id, &case.shutdown, &Asks(case.world.pool.clone())).await.is_ok());
    let job = case.job().await?;
    assert_eq!((job.state, job.owner.as_deref()), (State::Running, Some("another")));
    Ok(())
}
