use std::time::Duration;

use async_trait::async_trait;
use chassis::clock::Clock;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use sea_orm::sqlx::{Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Schedule, Timetable,
    row::{self, Turn, due, turned},
};

/// Longer than a round takes, whose statements the server ends. A server whose host is gone ends nothing.
const UNANSWERED: Duration = Duration::from_secs(180);
/// How often it looks.
const PAUSE: Duration = Duration::from_secs(5);
/// A time that passed longer ago was missed.
const GRACE: TimeDelta = TimeDelta::minutes(5);
/// What a schedule says while its time is waited for.
const WAITS: &str = "Espera a que termine lo que empezó antes";

/// What a schedule says that can't be begun: the reason is for the log.
const FAILED: &str = "No se pudo empezar: se intenta otra vez";

/// Whether the time in `next_at` is waited for. A process of the version before, which may run beside this one while it is
/// rolled out, tells it by its words alone, and leaves `waiting_since` as it is when it moves a schedule on: what began before
/// the time came was the waiting for another.
fn is_waited_for(schedule: &Schedule) -> bool {
    match schedule.waiting_since {
        Some(since) => since >= schedule.next_at,
        None => schedule.last_error.as_deref() == Some(WAITS),
    }
}

/// What came of one time of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// What was begun, or was under way already and stands for it.
    Run(Uuid),
    /// Nothing, for a reason that the schedule shows.
    Nothing(String),
    /// What it began before has not ended, and this is to begin after it: the schedule stays due. A time that was waited for
    /// was not missed, however long that took.
    Wait,
}

/// What a service does when a schedule's time has come.
#[async_trait]
pub trait Begin: Send + Sync {
    /// Begins it in the caller's transaction, which also moves the schedule on. `time` is the one that was due.
    ///
    /// # Errors
    /// The schedule says so, stays due, and is looked at again; others have their turns meanwhile.
    async fn begin(
        &self,
        conn: &mut PgConnection,
        schedule: &Schedule,
        timetable: &Timetable,
        time: DateTime<Utc>,
    ) -> anyhow::Result<Begun>;
}

/// The background task. Any number may run at once: each turn of a schedule is one's alone, and its next time commits
/// together with what it begins.
pub struct Scheduler<B> {
    pool: PgPool,
    clock: Clock,
    begin: B,
}

impl<B: Begin> Scheduler<B> {
    pub fn new(pool: PgPool, clock: Clock, begin: B) -> Self {
        Self { pool, clock, begin }
    }

    /// Looks every few seconds until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let round = tokio::time::timeout(UNANSWERED, self.round());
            match shutdown.run_until_cancelled(round).await {
                None => return,
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(error))) => {
                    tracing::warn!(error = format!("{error:#}"), "schedules not looked at")
                }
                Some(Err(_)) => tracing::warn!("schedules not looked at: the database does not answer"),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Gives each schedule that is due its turn. Returns how many moved on.
    ///
    /// # Errors
    /// The database; those that had no turn are due again.
    pub async fn round(&self) -> anyhow::Result<usize> {
        let (mut moved, mut waiting) = (0, Vec::new());
        loop {
            match self.turn_of(&waiting).await? {
                None => return Ok(moved),
                Some((_, true)) => moved += 1,
                Some((id, false)) => waiting.push(id),
            }
        }
    }

    /// Gives one schedule that is due its turn. Whether there was one.
    ///
    /// # Errors
    /// The database; the schedule is due again.
    pub async fn turn(&self) -> anyhow::Result<bool> {
        Ok(self.turn_of(&[]).await?.is_some())
    }

    /// The schedule that had its turn, and whether it moved on.
    async fn turn_of(&self, waiting: &[Uuid]) -> anyhow::Result<Option<(Uuid, bool)>> {
        let mut transaction = self.pool.begin().await?;
        let conn = &mut *transaction;
        let now = match &self.clock {
            // Of several processes the one whose host's clock is ahead would always act first, before its time.
            Clock::System => row::now(conn).await?,
            Clock::Fixed(_) => self.clock.now(),
        };
        let Some(schedule) = due(conn, now, waiting).await? else { return Ok(None) };
        let times = Timetable::parse(&schedule.cron, &schedule.zone).and_then(|timetable| {
            let waited = is_waited_for(&schedule);
            Ok((timetable.due(schedule.next_at, now, GRACE, schedule.missed, waited)?, timetable))
        });
        let ((times, next), timetable) = match times {
            Ok(times) => times,
            Err(error) => {
                let told = error.to_string();
                turned(conn, schedule.id, Turn { error: Some(&told), ..Turn::default() }).await?;
                transaction.commit().await?;
                return Ok(Some((schedule.id, true)));
            }
        };
        let (mut run, mut error, mut last) = (None, None, None);
        if times.is_empty() {
            let due = schedule.next_at.to_rfc3339_opts(SecondsFormat::Secs, true);
            error = Some(format!("Se saltó {due}: pasó mientras nadie podía actuar"));
        }
        for time in &times {
            // What could not be begun leaves nothing behind.
            let mut attempt = conn.begin().await?;
            let stays = match self.begin.begin(&mut attempt, &schedule, &timetable, *time).await {
                Ok(Begun::Run(begun)) => {
                    run = Some(begun);
                    None
                }
                Ok(Begun::Nothing(told)) => {
                    error = Some(told);
                    None
                }
                Ok(Begun::Wait) => Some((WAITS, true)),
                Err(failed) => {
                    tracing::warn!(schedule = %schedule.id, error = format!("{failed:#}"), "schedule not begun");
                    Some((FAILED, false))
                }
            };
            if let Some((told, waits)) = stays {
                attempt.rollback().await?;
                // The time that is waited for is the first; another begins to wait now.
                let since = schedule.waiting_since.filter(|_| last.is_none());
                let waiting_since = if waits { since.or(Some(now)) } else { since };
                // The times before it are done with; this one and those after it stay due, and the other schedules have
                // their turns.
                let is_told = schedule.last_error.as_deref() == Some(told);
                if last.is_some() || !is_told || schedule.waiting_since != waiting_since {
                    let turn =
                        Turn { last_at: last, next_at: Some(*time), run, error: Some(told), waiting_since };
                    turned(conn, schedule.id, turn).await?;
                    transaction.commit().await?;
                }
                return Ok(Some((schedule.id, false)));
            }
            attempt.commit().await?;
            last = Some(*time);
        }
        let turn =
            Turn { last_at: last, next_at: Some(next), run, error: error.as_deref(), waiting_since: None };
        turned(conn, schedule.id, turn).await?;
        transaction.commit().await?;
        tracing::info!(schedule = %schedule.id, runs = times.len(), ?run, ?error, next_at = %next, "schedule had its turn");
        Ok(Some((schedule.id, true)))
    }
}
