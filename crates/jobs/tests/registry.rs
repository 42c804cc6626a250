//! One message for all kinds of jobs: it is run by the work of its kind, whoever published it.

mod common;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use common::{PATIENCE, World};
use contracts::{
    Message, QUEUES, Queue, Routed as _, Transport,
    catalog::v1::{ProcessImport, UndoImport},
    jobs::v1::RunJob,
    queues::{CATALOG_IMPORTS, CATALOG_REPORTS},
};
use jobs::{Creation, Job, JobKind, JobRun, Jobs, Outcome, State, Work};
use messaging::{Backoff, Broker, BrokerConfig, Destination, Envelope, JobError, Outgoing};
use sea_orm::sqlx::{self, PgConnection};
use serde_json::{Value, json};
use stack::wait;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What the works of a test did: the name of the work, what it did, and to which job.
type Log = Arc<Mutex<Vec<(&'static str, &'static str, Uuid)>>>;

/// Work that notes what it does.
struct Noting {
    name: &'static str,
    log: Log,
    /// How long it takes.
    takes: Duration,
}

impl Noting {
    fn note(&self, what: &'static str, job: Uuid) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push((self.name, what, job));
    }
}

#[async_trait]
impl Work for Noting {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        self.note("work", run.job.id);
        tokio::time::sleep(self.takes).await;
        Ok(Outcome::Done(Value::Null))
    }

    async fn ended(&self, _: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        self.note("ended", job.id);
        Ok(())
    }

    async fn after(&self, job: Uuid) {
        self.note("after", job);
    }
}

/// A service with two kinds of jobs on one queue, and a third on another.
struct Case {
    world: World,
    broker: Broker,
    log: Log,
    shutdown: CancellationToken,
}

fn kind(name: &'static str, queue: &'static Queue) -> JobKind {
    JobKind { max_attempts: 3, ..JobKind::new("test", name, queue) }
}

fn imports() -> JobKind {
    JobKind { replaces: Some(ProcessImport::TYPE), ..kind("test.imports", &CATALOG_IMPORTS) }
}

fn undos() -> JobKind {
    let backoff = Backoff { steps: vec![Duration::from_secs(3600)] };
    let deadline = Duration::from_millis(200);
    JobKind { replaces: Some(UndoImport::TYPE), deadline, backoff, ..kind("test.undos", &CATALOG_IMPORTS) }
}

impl Case {
    /// Undos take as long as this.
    async fn new(label: &str, undos_take: Duration) -> Result<Self> {
        let world = World::new(label).await?;
        let broker = Broker::new(BrokerConfig {
            service: "jobs-test".into(),
            amqp_url: Some(world.namespace.servers().amqp_url.clone()),
            sqs: None,
            prefix: world.namespace.queue_prefix.clone(),
            transports: HashMap::from([(CATALOG_IMPORTS.name.into(), Transport::Amqp)]),
        })?;
        broker.declare(QUEUES).await?;
        let (log, shutdown) = (Log::default(), CancellationToken::new());
        let work = |name, takes| Noting { name, log: log.clone(), takes };
        let jobs = Jobs::new(world.pool.clone())
            .register(imports(), work("imports", Duration::ZERO))
            .register(undos(), work("undos", undos_take))
            .register(kind("test.reports", &CATALOG_REPORTS), work("reports", Duration::ZERO));
        for (_, consumer) in jobs.consumers(&broker) {
            tokio::spawn(consumer.run(shutdown.clone()));
        }
        tokio::spawn(outbox::Relay::new(world.pool.clone(), broker.clone()).run(shutdown.clone()));
        Ok(Self { world, broker, log, shutdown })
    }

    /// A job and its message, as an API creates them.
    async fn create(&self, kind: &JobKind) -> Result<Uuid> {
        let mut transaction = self.world.pool.begin().await?;
        let created = kind.create(&mut transaction, kind.job("ana"), None).await?;
        transaction.commit().await?;
        match created {
            Creation::Created(job) => Ok(job.id),
            Creation::Existing(job) => anyhow::bail!("job {} has no key and yet exists", job.id),
        }
    }

    /// A job without a message.
    async fn row(&self, kind: &JobKind) -> Result<Uuid> {
        let job = kind.job("ana");
        let id = job.id;
        jobs::create(&mut *self.world.pool.acquire().await?, job).await?;
        Ok(id)
    }

    async fn publish(&self, outgoing: Outgoing) -> Result<()> {
        for result in self.broker.publish(&[outgoing]).await {
            result?;
        }
        Ok(())
    }

    /// Publishes a message to the queue of imports.
    async fn send(&self, job_id: &str, kind: &str) -> Result<()> {
        let message = RunJob { job_id: job_id.to_owned(), kind: kind.to_owned() };
        let destination = Destination::from(&CATALOG_IMPORTS);
        self.publish(Outgoing::to(destination, &Envelope::new("test", &message)?)?).await
    }

    async fn until_state(&self, id: Uuid, state: State) -> Result<()> {
        wait::until(&format!("{id} is {}", state.name()), PATIENCE, || async {
            self.world.get(id).await.is_ok_and(|job| job.state == state)
        })
        .await
    }

    /// What was done to a job, once it was told of.
    async fn log_of(&self, id: Uuid) -> Result<Vec<(&'static str, &'static str)>> {
        let log = || -> Vec<_> {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.iter().filter(|(.., job)| *job == id).map(|(name, what, _)| (*name, *what)).collect()
        };
        wait::until(&format!("{id} is told of"), PATIENCE, || async {
            log().iter().any(|(_, what)| *what == "after")
        })
        .await?;
        Ok(log())
    }

    /// The reason and the error of the next dead letter of imports.
    async fn dead_letter(&self) -> Result<(String, String)> {
        let mut letters = self.broker.letters(&CATALOG_IMPORTS);
        let letter = tokio::time::timeout(PATIENCE, letters.next()).await.context("no dead letter")?;
        let told = (letter.reason.clone(), letter.error.clone());
        letter.ack().await?;
        Ok(told)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_two_kinds_on_one_queue_are_run_each_by_its_work() -> Result<()> {
    let case = Case::new("jobs_kinds", Duration::ZERO).await?;
    let reports = kind("test.reports", &CATALOG_REPORTS);
    for (kind, work) in [(imports(), "imports"), (undos(), "undos"), (reports, "reports")] {
        let id = case.create(&kind).await?;
        case.until_state(id, State::Completed).await?;
        ensure!(case.log_of(id).await? == ["work", "ended", "after"].map(|what| (work, what)), "{work}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_previous_release_is_run_as_its_job_is() -> Result<()> {
    let case = Case::new("jobs_replaced", Duration::ZERO).await?;
    let (import, undo) = (case.row(&imports()).await?, case.row(&undos()).await?);
    let old = ProcessImport { task_id: import.to_string() };
    ensure!(ProcessImport::ROUTE == contracts::Route::Command(&CATALOG_IMPORTS));
    case.publish(Outgoing::new::<ProcessImport>(&Envelope::new("test", &old)?)?).await?;
    let old = UndoImport { task_id: undo.to_string() };
    case.publish(Outgoing::new::<UndoImport>(&Envelope::new("test", &old)?)?).await?;
    for (id, work) in [(import, "imports"), (undo, "undos")] {
        case.until_state(id, State::Completed).await?;
        ensure!(case.log_of(id).await? == ["work", "ended", "after"].map(|what| (work, what)), "{work}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_to_which_a_later_release_added_a_field_has_its_job_run() -> Result<()> {
    let case = Case::new("jobs_grown", Duration::ZERO).await?;
    let id = case.row(&imports()).await?;
    let message = RunJob { job_id: id.to_string(), kind: "test.imports".to_owned() };
    let mut envelope = Envelope::new("test", &message)?;
    envelope.data["addedLater"] = json!({ "deep": [1] });
    case.publish(Outgoing::to(Destination::from(&CATALOG_IMPORTS), &envelope)?).await?;
    case.until_state(id, State::Completed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_work_is_registered_for_is_a_dead_letter_that_says_so() -> Result<()> {
    let case = Case::new("jobs_unknown", Duration::ZERO).await?;
    let id = case.row(&imports()).await?;
    let report = case.row(&kind("test.reports", &CATALOG_REPORTS)).await?;
    for (job, kind, expected) in [
        (
            id.to_string(),
            "test.strange",
            "no job of the kind \"test.strange\" is run from the queue catalog.imports",
        ),
        // Its worker consumes another queue.
        (report.to_string(), "test.reports", "only of test.imports, test.undos"),
        // The row is the truth: an import is not run as an undo.
        (id.to_string(), "test.undos", "is of the kind test.imports, not test.undos"),
        ("7".to_owned(), "test.imports", "the job's id \"7\" is not a valid UUID"),
        (Uuid::nil().to_string(), "test.imports", "there is no job"),
    ] {
        case.send(&job, kind).await?;
        let (reason, error) = case.dead_letter().await?;
        ensure!(reason == "failed" && error.contains(expected), "{kind}: {reason}: {error}");
    }
    let job = case.world.get(id).await?;
    ensure!((job.state, job.attempts, job.epoch) == (State::Pending, 0, 0), "it was touched: {job:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_has_its_own_deadline_on_a_queue_that_it_shares() -> Result<()> {
    let case = Case::new("jobs_deadline", Duration::from_secs(3600)).await?;
    let slow = case.create(&undos()).await?;
    // Dropped at its own deadline, which is told; the queue's place is free for the import.
    ensure!(case.log_of(slow).await? == [("undos", "work"), ("undos", "after")]);
    let quick = case.create(&imports()).await?;
    case.until_state(quick, State::Completed).await?;
    // It waits for its next attempt, and says why.
    let deferred = case.world.get(slow).await?;
    let said =
        deferred.error.as_deref().is_some_and(|error| error.contains("exceeded its deadline of 0.2 s"));
    ensure!(deferred.state == State::Pending && said, "{deferred:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_and_its_message_are_written_together_once_for_a_key() -> Result<()> {
    let world = World::new("jobs_create").await?;
    let kind = imports();
    for expected in ["new", "known", "known"] {
        let mut transaction = world.pool.begin().await?;
        let mut job = kind.job("ana");
        job.idempotency_key = Some("k".into());
        let created = kind.create(&mut transaction, job, Some("request".into())).await?;
        transaction.commit().await?;
        ensure!(matches!(created, Creation::Created(_)) == (expected == "new"), "{expected}: {created:?}");
    }
    let mut transaction = world.pool.begin().await?;
    kind.create(&mut transaction, kind.job("ana"), None).await?;
    transaction.rollback().await?;
    let ids = [Uuid::now_v7(), Uuid::now_v7()];
    let mut transaction = world.pool.begin().await?;
    kind.create_all(&mut transaction, &ids, Some("ana"), Some("run".into())).await?;
    transaction.commit().await?;
    let rows: Vec<(Uuid, String, i32)> =
        sqlx::query_as("SELECT id, kind, max_attempts FROM jobs ORDER BY id").fetch_all(&world.pool).await?;
    ensure!(
        rows.len() == 3 && rows.iter().all(|(_, name, most)| name == kind.name && *most == 3),
        "{rows:?}"
    );
    let sent: Vec<(String, Value)> = sqlx::query_as(
        "SELECT destination, body::jsonb FROM outbox ORDER BY body::jsonb -> 'data' ->> 'jobId'",
    )
    .fetch_all(&world.pool)
    .await?;
    ensure!(sent.len() == rows.len(), "{sent:?}");
    for ((destination, body), (id, ..)) in sent.iter().zip(&rows) {
        ensure!(destination == "queue:catalog.imports", "{destination}");
        ensure!(body["type"] == "lote.jobs.v1.RunJob" && body["source"] == "/lote/test", "{body}");
        ensure!(body["data"] == json!({"jobId": id, "kind": "test.imports"}), "{body}");
        let correlation = if ids.contains(id) { "run" } else { "request" };
        ensure!(body["correlationid"] == correlation && body["subject"] == json!(id), "{body}");
    }
    Ok(())
}

#[tokio::test]
#[should_panic(expected = "test.imports is registered twice")]
async fn a_kind_is_registered_once() {
    let pool = sqlx::PgPool::connect_lazy("postgres://localhost/none").expect("an address");
    let work = || Noting { name: "", log: Log::default(), takes: Duration::ZERO };
    let _ = Jobs::new(pool).register(imports(), work()).register(imports(), work());
}
