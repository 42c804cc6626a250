use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::{Queue, jobs::v1::RunJob};
use messaging::{Broker, Consumer, Context, Handler, JobError, Policy};
use sea_orm::sqlx::PgPool;
use uuid::Uuid;

use crate::{Activities, JobKind, Runner, Sweeper, Work};

/// Every kind of job of a service, each with its work. Both roles have it: a worker runs [`Jobs::consumers`], and either
/// runs [`Jobs::sweepers`].
pub struct Jobs {
    pool: PgPool,
    activities: Activities,
    all: Vec<Arc<Registered>>,
}

/// What a job that exceeded its deadline has on top of it, to write so.
const SETTLED: Duration = Duration::from_secs(60);

/// A kind with its work.
struct Registered {
    kind: JobKind,
    runner: Runner,
    work: Box<dyn Work>,
}

impl Jobs {
    /// None yet. `pool` leads to the schema that has their rows.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, activities: Activities::default(), all: Vec::new() }
    }

    /// Adds a kind of job, and what its jobs do.
    ///
    /// # Panics
    /// Where a kind of that name is there already.
    #[must_use]
    pub fn register(mut self, kind: JobKind, work: impl Work + 'static) -> Self {
        assert!(self.all.iter().all(|one| one.kind.name != kind.name), "{} is registered twice", kind.name);
        let runner = Runner::of(self.pool.clone(), &kind, self.activities.clone());
        self.all.push(Arc::new(Registered { kind, runner, work: Box::new(work) }));
        self
    }

    /// What this process works on, for its [`crate::workers::Announcer`].
    pub fn activities(&self) -> Activities {
        self.activities.clone()
    }

    /// The sweeper of each queue that has jobs, by the queue's name.
    pub fn sweepers(&self, broker: &Broker) -> impl Iterator<Item = (&'static str, Sweeper)> {
        self.by_queue().into_values().map(|(queue, all)| {
            let kinds = all.iter().map(|one| one.kind.clone()).collect();
            (queue.name, Sweeper::new(self.pool.clone(), broker.clone(), queue, kinds))
        })
    }

    /// What is registered, by the queue's name.
    fn by_queue(&self) -> BTreeMap<&'static str, (&'static Queue, Vec<Arc<Registered>>)> {
        let mut queues: BTreeMap<&str, (&'static Queue, Vec<Arc<Registered>>)> = BTreeMap::new();
        for one in &self.all {
            let queue = one.kind.queue;
            queues.entry(queue.name).or_insert((queue, Vec::new())).1.push(one.clone());
        }
        queues
    }

    /// The consumer of each queue that has jobs, by the queue's name.
    pub fn consumers(&self, broker: &Broker) -> impl Iterator<Item = (&'static str, Consumer)> {
        self.by_queue().into_values().map(|(queue, kinds)| {
            let concurrency = kinds.iter().map(|one| one.kind.concurrency).min().unwrap_or(1);
            // Each kind has its own within that.
            let longest = kinds.iter().map(|one| one.kind.deadline).max().unwrap_or_default();
            let deadline = longest.saturating_add(SETTLED);
            let policy = Policy { concurrency, deadline, ..Policy::default() };
            let run = RunJobs { kinds };
            let mut consumer = Consumer::new(broker, queue).policy(policy).handle(run.clone());
            for one in &run.kinds {
                if let Some(replaced) = one.kind.replaces {
                    let kind = one.kind.name;
                    let read = move |data: &str| replaced_command(kind, data);
                    consumer = consumer.handle_replaced(replaced, read, run.clone());
                }
            }
            (queue.name, consumer)
        })
    }
}

/// Reads a command of the previous release, which had the job's id as its only field. Absent is empty, as in proto3.
fn replaced_command(kind: &str, data: &str) -> serde_json::Result<RunJob> {
    let fields: BTreeMap<String, String> = serde_json::from_str(data)?;
    let mut ids = fields.into_values();
    let job_id = ids.next().unwrap_or_default();
    if ids.next().is_some() {
        return Err(serde::de::Error::custom("expected the id of a job and nothing else"));
    }
    Ok(RunJob { job_id, kind: kind.to_owned() })
}

/// Runs the jobs that come by one queue.
#[derive(Clone)]
struct RunJobs {
    kinds: Vec<Arc<Registered>>,
}

#[async_trait]
impl Handler<RunJob> for RunJobs {
    async fn handle(&self, message: RunJob, context: &Context) -> Result<(), JobError> {
        let RunJob { job_id, kind } = message;
        let id = Uuid::parse_str(&job_id)
            .with_context(|| format!("the job's id {job_id:?} is not a valid UUID"))
            .map_err(JobError::Fail)?;
        let Some(registered) = self.kinds.iter().find(|one| one.kind.name == kind) else {
            let known: Vec<_> = self.kinds.iter().map(|one| one.kind.name).collect();
            let queue = context.queue;
            return Err(JobError::fail(anyhow!(
                "no job of the kind {kind:?} is run from the queue {queue}, only of {}",
                known.join(", ")
            )));
        };
        registered.run(id, context).await
    }
}

impl Registered {
    async fn run(&self, id: Uuid, context: &Context) -> Result<(), JobError> {
        let done = self.runner.run(id, &context.shutdown, &*self.work).await;
        self.work.after(id).await;
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_command_names_its_job_by_its_only_field() {
        let read = |data| replaced_command("a.kind", data).map(|run| (run.kind, run.job_id)).ok();
        let run = |id: &str| Some(("a.kind".to_owned(), id.to_owned()));
        assert_eq!(read(r#"{"taskId":"7"}"#), run("7"));
        assert_eq!(read(r#"{"job_id":"7"}"#), run("7"));
        assert_eq!(read("{}"), run(""), "which is no id: a dead letter with that reason");
        for bad in [r#"{"taskId":"7","more":"8"}"#, r#"{"taskId":7}"#, "[]", "7"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
