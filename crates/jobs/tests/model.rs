//! Random histories of one job against a model of what each step may do.

mod common;

use std::time::Duration;

use anyhow::{Result, ensure};
use common::World;
use jobs::{
    Claim, Error, Job, Lease, Position, Progress, State, cancelled, checkpoint, complete, defer, fail,
    heartbeat, release, reopen, request_cancel,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sea_orm::sqlx;
use serde_json::json;
use uuid::Uuid;

const MAX_ATTEMPTS: i32 = 3;

/// What may happen. Who acts names one of the claims made so far, stale ones included.
#[derive(Clone, Debug)]
enum Step {
    Claim,
    Lapse,
    FailOver,
    MakeDue,
    Cancel,
    Reopen,
    Checkpoint { who: prop::sample::Index, position: Position },
    Heartbeat { who: prop::sample::Index },
    Complete { who: prop::sample::Index },
    Fail { who: prop::sample::Index },
    Cancelled { who: prop::sample::Index },
    Defer { who: prop::sample::Index },
    Release { who: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let who = any::<prop::sample::Index>;
    prop_oneof![
        6 => Just(Step::Claim),
        5 => Just(Step::Lapse),
        1 => Just(Step::FailOver),
        2 => Just(Step::MakeDue),
        1 => Just(Step::Cancel),
        1 => Just(Step::Reopen),
        5 => (who(), position()).prop_map(|(who, position)| Step::Checkpoint { who, position }),
        2 => who().prop_map(|who| Step::Heartbeat { who }),
        1 => who().prop_map(|who| Step::Complete { who }),
        1 => who().prop_map(|who| Step::Fail { who }),
        1 => who().prop_map(|who| Step::Cancelled { who }),
        2 => who().prop_map(|who| Step::Defer { who }),
        1 => who().prop_map(|who| Step::Release { who }),
    ]
}

/// Few, so that they come again.
fn position() -> impl Strategy<Value = Position> {
    (0..3_u32, 0..4_i64).prop_map(|(phase, step)| Position::new(phase, step))
}

/// What the row must be, as far as this test cares.
#[derive(Clone, Debug)]
struct Model {
    state: State,
    epoch: i64,
    attempts: i32,
    lapsed: bool,
    due: bool,
    cancel: bool,
    /// The claim that it runs under.
    holder: Option<Uuid>,
    reached: Option<Position>,
    /// Checkpoints written: each differs from all before.
    written: i64,
}

impl Model {
    fn holds(&self, lease: &Lease) -> bool {
        self.state == State::Running && self.holder == Some(lease.token)
    }

    fn end(&mut self, state: State) {
        self.state = state;
    }

    /// A checkpoint: who gets further has all its attempts again.
    fn reach(&mut self, position: Position, row: i64) {
        if self.reached.is_none_or(|reached| position > reached) {
            self.attempts = 0;
            self.reached = Some(position);
        }
        self.written = row;
        self.lapsed = false;
    }

    fn defer(&mut self) {
        let last = self.attempts >= MAX_ATTEMPTS;
        self.end(if last { State::Failed } else { State::Pending });
        // Whose end was asked for is not kept waiting.
        self.due = self.cancel;
    }

    fn release(&mut self) {
        self.end(State::Pending);
        self.attempts = (self.attempts - 1).max(0);
        self.due = true;
    }
}

struct History<'a> {
    world: &'a World,
    id: Uuid,
    model: Model,
    leases: Vec<Lease>,
    version: i64,
}

impl History<'_> {
    async fn step(&mut self, step: &Step) -> Result<()> {
        let before = self.model.clone();
        match step {
            Step::Claim => self.claim().await?,
            Step::Lapse => {
                self.world.lapse(self.id).await?;
                self.model.lapsed = true;
            }
            Step::FailOver => {
                self.world.fail_over(self.id).await?;
                if self.model.state == State::Running {
                    self.model.state = State::Pending;
                    self.model.epoch -= 1;
                }
            }
            Step::MakeDue => {
                self.world.make_due(self.id).await?;
                self.model.due = true;
            }
            Step::Cancel => {
                let live = !self.model.state.is_final() && !self.model.cancel;
                request_cancel(&mut *self.world.pool.acquire().await?, self.id).await?;
                self.model.cancel |= live;
                self.model.due |= live;
            }
            Step::Reopen => {
                let reopened = reopen(&mut *self.world.pool.acquire().await?, self.id).await?;
                let may = matches!(self.model.state, State::Failed | State::Cancelled);
                ensure!(reopened.is_some() == may, "reopened {may}");
                if may {
                    self.model = Model {
                        state: State::Pending,
                        attempts: 0,
                        due: true,
                        cancel: false,
                        ..before.clone()
                    };
                }
            }
            _ => self.act(step).await?,
        }
        let job = self.world.get(self.id).await?;
        self.compare(&job).await
    }

    async fn claim(&mut self) -> Result<()> {
        let free = match self.model.state {
            State::Pending => self.model.due,
            State::Running => self.model.lapsed,
            _ => false,
        };
        let exhausted = self.model.attempts >= MAX_ATTEMPTS && !self.model.cancel;
        let (job, lease) = match self.world.claim(self.id, "worker").await? {
            Claim::Claimed(job, lease) => {
                ensure!(free && !exhausted, "claimed");
                (job, lease)
            }
            Claim::Exhausted(job, lease) => {
                ensure!(free && exhausted, "exhausted");
                (job, lease)
            }
            Claim::Busy { .. } => {
                ensure!(!free && self.model.state == State::Running, "busy");
                return Ok(());
            }
            Claim::NotDue => {
                ensure!(!free && self.model.state == State::Pending, "not due");
                return Ok(());
            }
            Claim::Finished(_) => {
                ensure!(self.model.state.is_final(), "finished");
                return Ok(());
            }
            Claim::Missing => anyhow::bail!("missing"),
        };
        ensure!(lease.epoch == self.model.epoch + 1 && job.epoch == lease.epoch, "the epoch rises");
        self.model.state = State::Running;
        self.model.epoch = lease.epoch;
        self.model.attempts = (self.model.attempts + 1).min(MAX_ATTEMPTS);
        self.model.lapsed = false;
        self.model.holder = Some(lease.token);
        self.leases.push(lease);
        Ok(())
    }

    /// A holder, fresh or stale, writes something.
    async fn act(&mut self, step: &Step) -> Result<()> {
        let (Step::Checkpoint { who, .. }
        | Step::Heartbeat { who }
        | Step::Complete { who }
        | Step::Fail { who }
        | Step::Cancelled { who }
        | Step::Defer { who }
        | Step::Release { who }) = step
        else {
            return Ok(());
        };
        if self.leases.is_empty() {
            return Ok(());
        }
        let lease = self.leases[who.index(self.leases.len())].clone();
        let holds = self.model.holds(&lease);
        let mut conn = self.world.pool.acquire().await?;
        let conn = &mut *conn;
        let written = match step {
            Step::Checkpoint { position, .. } => {
                let row = self.model.written + 1;
                let progress = Progress { total: None, processed: row, successful: row, failed: 0 };
                let written =
                    checkpoint(conn, &lease, &json!({"row": row}), *position, &progress).await.map(drop);
                if holds {
                    self.model.reach(*position, row);
                }
                written
            }
            Step::Heartbeat { .. } => {
                self.model.lapsed &= !holds;
                heartbeat(conn, &lease).await.map(drop)
            }
            Step::Complete { .. } => {
                let written = complete(conn, &lease, &json!({})).await.map(drop);
                if holds {
                    self.model.end(State::Completed);
                }
                written
            }
            Step::Fail { .. } => {
                let written = fail(conn, &lease, "no").await.map(drop);
                if holds {
                    self.model.end(State::Failed);
                }
                written
            }
            Step::Cancelled { .. } => {
                let written = cancelled(conn, &lease).await.map(drop);
                if holds && !self.model.cancel {
                    ensure!(matches!(written, Err(Error::Database(_))), "nobody asked for it");
                    return Ok(());
                }
                if holds {
                    self.model.end(State::Cancelled);
                }
                written
            }
            Step::Defer { .. } => {
                let written = defer(conn, &lease, "later", Duration::from_secs(3600)).await.map(drop);
                if holds {
                    self.model.defer();
                }
                written
            }
            _ => {
                let written = release(conn, &lease).await.map(drop);
                if holds {
                    self.model.release();
                }
                written
            }
        };
        match written {
            Ok(()) => ensure!(holds, "a stale holder wrote"),
            Err(Error::LeaseLost) => ensure!(!holds, "the holder lost its lease"),
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// Whether the job is due, and the next sweep nudges it.
    async fn at_once(&self) -> Result<bool> {
        let query = "SELECT next_run_at <= clock_timestamp() AND nudged_at IS NULL FROM jobs WHERE id = $1";
        Ok(sqlx::query_scalar(query).bind(self.id).fetch_one(&self.world.pool).await?)
    }

    async fn compare(&mut self, job: &Job) -> Result<()> {
        let model = &self.model;
        ensure!(job.state == model.state, "state {:?}", job.state);
        ensure!(job.epoch == model.epoch, "epoch {}", job.epoch);
        ensure!(job.attempts == model.attempts, "attempts {}", job.attempts);
        ensure!(job.attempts <= job.max_attempts, "attempts {}", job.attempts);
        ensure!(job.cancel_requested_at.is_some() == model.cancel, "cancel {:?}", job.cancel_requested_at);
        ensure!(job.finished_at.is_some() == job.state.is_final(), "finished at {:?}", job.finished_at);
        ensure!(job.version >= self.version, "version {} after {}", job.version, self.version);
        let checkpoint = (model.written > 0).then(|| json!({"row": model.written}));
        ensure!(job.checkpoint == checkpoint, "checkpoint {:?}", job.checkpoint);
        ensure!(job.reached == model.reached, "reached {:?}", job.reached);
        if model.state == State::Pending && model.cancel {
            ensure!(self.at_once().await?, "its end was asked for, and it waits");
        }
        self.version = job.version;
        Ok(())
    }
}

async fn play(world: &World, steps: &[Step]) -> Result<()> {
    let model = Model {
        state: State::Pending,
        epoch: 0,
        attempts: 0,
        lapsed: false,
        due: true,
        cancel: false,
        holder: None,
        reached: None,
        written: 0,
    };
    let id = world.job(MAX_ATTEMPTS).await?;
    let mut history = History { world, id, model, leases: Vec::new(), version: 1 };
    for (place, step) in steps.iter().enumerate() {
        let before = history.model.clone();
        history
            .step(step)
            .await
            .map_err(|error| error.context(format!("step {place}, {step:?}, from {before:?}")))?;
    }
    Ok(())
}

#[test]
fn random_histories_keep_the_rules() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let world = runtime.block_on(World::new("jobs_model"))?;
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let histories = prop::collection::vec(step(), 1..40);
    runner.run(&histories, |steps| {
        runtime.block_on(play(&world, &steps)).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    })?;
    // The namespace is dropped inside the runtime's life.
    drop(world);
    Ok(())
}

/// Attempts as their works tell them: each begins where its checkpoint says, or repeats what is done, and then ends with a
/// transient error. Gives after how many the job failed.
async fn fails_after(world: &World, attempts: &[Vec<Position>]) -> Result<Option<usize>> {
    let id = world.job(MAX_ATTEMPTS).await?;
    let mut conn = world.pool.acquire().await?;
    for (n, told) in attempts.iter().enumerate() {
        let (_, lease) = world.hold(id, "worker").await?;
        for position in told {
            let checkpoint_of_it = json!({"attempt": n, "phase": position.phase, "step": position.step});
            checkpoint(&mut conn, &lease, &checkpoint_of_it, *position, &Progress::default()).await?;
        }
        if defer(&mut conn, &lease, "later", Duration::ZERO).await?.state == State::Failed {
            return Ok(Some(n + 1));
        }
    }
    Ok(None)
}

#[test]
fn a_job_fails_after_so_many_attempts_in_a_row_that_reach_nothing_new_and_not_before() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let world = runtime.block_on(World::new("jobs_attempts"))?;
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let attempts = prop::collection::vec(prop::collection::vec(position(), 0..4), 1..14);
    runner.run(&attempts, |attempts| {
        let (mut highest, mut in_vain, mut expected) = (None, 0, None);
        for (n, told) in attempts.iter().enumerate() {
            let reached = told.iter().copied().max();
            in_vain = if reached > highest { 0 } else { in_vain + 1 };
            highest = highest.max(reached);
            if in_vain == MAX_ATTEMPTS {
                expected = Some(n + 1);
                break;
            }
        }
        let failed = runtime
            .block_on(fails_after(&world, &attempts))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
        prop_assert_eq!(failed, expected);
        Ok(())
    })?;
    drop(world);
    Ok(())
}
