use std::time::Duration;

use contracts::{Queue, jobs::v1::RunJob};
use messaging::Backoff;
use outbox::Meta;
use sea_orm::sqlx::PgConnection;
use uuid::Uuid;

use crate::{Creation, Error, NewJob, create::create_all};

/// A kind of job: what it is called, where its messages go, and how it is run. This is the one place that says how
/// often, for how long and after which pauses a job is tried; whoever creates, runs or sweeps jobs of the kind has it
/// from here.
#[derive(Clone, Debug, PartialEq)]
pub struct JobKind {
    /// The service whose schema has the rows.
    pub service: &'static str,
    /// The name in rows, messages and metrics, `<service>.<what>`. It never changes: rows have it.
    pub name: &'static str,
    /// Where its messages go. Several kinds may share a queue; each message says which it is of.
    pub queue: &'static Queue,
    /// Jobs that one process runs at once. Kinds that share a queue share its places: the smallest number counts.
    pub concurrency: usize,
    /// How long one attempt may take; then it is dropped, and counts as one that failed.
    pub deadline: Duration,
    /// How long a job waits after its worker's death. A lease is extended three times in that time. A message that
    /// nobody answers is repeated after as long.
    pub lease: Duration,
    /// Attempts without progress before a job fails.
    pub max_attempts: i32,
    /// The pauses between them.
    pub backoff: Backoff,
    /// The type of the message that ran a job of this kind in the previous release: it is still understood. Its only
    /// field is the job's id, whatever it is called.
    pub replaces: Option<&'static str>,
}

impl JobKind {
    /// A kind whose jobs run one at a time in each process, with leases of 60 s and 10 attempts of an hour each.
    pub fn new(service: &'static str, name: &'static str, queue: &'static Queue) -> Self {
        Self {
            service,
            name,
            queue,
            concurrency: 1,
            deadline: Duration::from_secs(60 * 60),
            lease: Duration::from_secs(60),
            max_attempts: 10,
            backoff: Backoff::default(),
            replaces: None,
        }
    }

    /// A new job of this kind, with an id of its own, about what a row of its service's says: it has no parameters, and
    /// no key by which somebody would ask for it again. Change what it needs, and give it to [`JobKind::create`].
    pub fn job(&self, user: &str) -> NewJob<'static> {
        NewJob::plain(self.name, user, self.max_attempts)
    }

    /// Writes a job and the message that has it run, in the caller's transaction. Whatever `job` says, it is of this kind
    /// and has this kind's attempts. Two calls at once with one user and
    /// key: the second waits for the first's transaction and gets its job. `correlation_id` is the request's.
    ///
    /// # Errors
    /// As [`crate::create`].
    pub async fn create(
        &self,
        conn: &mut PgConnection,
        job: NewJob<'_>,
        correlation_id: Option<String>,
    ) -> Result<Creation, Error> {
        let job = NewJob { kind: self.name, max_attempts: self.max_attempts, ..job };
        let created = crate::create(&mut *conn, job).await?;
        if let Creation::Created(job) = &created {
            self.nudge(conn, &[job.id], correlation_id).await?;
        }
        Ok(created)
    }

    /// Writes many jobs and their messages, in the caller's transaction. They differ in their ids only, and have no
    /// idempotency keys: what creates them is itself done once.
    ///
    /// # Errors
    /// The database (a job with one of these ids exists).
    pub async fn create_all(
        &self,
        conn: &mut PgConnection,
        ids: &[Uuid],
        user: Option<&str>,
        correlation_id: Option<String>,
    ) -> Result<(), Error> {
        create_all(&mut *conn, ids, self.name, user, self.max_attempts).await?;
        self.nudge(conn, ids, correlation_id).await
    }

    /// Says to the workers that these jobs are due, when the caller's transaction commits. Only for a job that was
    /// opened again: the sweeper would say so too, a second later.
    ///
    /// # Errors
    /// The database.
    pub async fn nudge(
        &self,
        conn: &mut PgConnection,
        ids: &[Uuid],
        correlation_id: Option<String>,
    ) -> Result<(), Error> {
        let messages = ids.iter().map(|id| {
            let message = RunJob { job_id: id.to_string(), kind: self.name.to_owned() };
            (message, Meta::about(id).correlated(correlation_id.clone()))
        });
        outbox::publish_to(conn, self.service, self.queue, messages.collect()).await?;
        Ok(())
    }
}
