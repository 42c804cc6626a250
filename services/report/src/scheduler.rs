//! Starts the runs that schedules ask for.

use std::time::Duration;

use chassis::clock::Clock;
use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Resources,
    asking::{Asked, Wish, ask},
    domain::schedule::Timetable,
    storage::schedules::{self, Schedule},
};

/// How often it looks.
const PAUSE: Duration = Duration::from_secs(5);
/// A time that passed longer ago was missed.
const GRACE: TimeDelta = TimeDelta::minutes(5);

/// The background task. Any number may run at once: each turn of a schedule is one's alone, and its next time commits
/// together with its run.
pub struct Scheduler {
    resources: Resources,
    clock: Clock,
}

impl Scheduler {
    pub fn new(resources: Resources, clock: Clock) -> Self {
        Self { resources, clock }
    }

    /// Looks every few seconds until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            match shutdown.run_until_cancelled(self.turn()).await {
                None => return,
                Some(Ok(true)) => continue,
                Some(Ok(false)) => {}
                Some(Err(error)) => tracing::warn!(error = format!("{error:#}"), "schedules not looked at"),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    /// Gives one schedule that is due its turn. Whether there was one.
    ///
    /// # Errors
    /// The database; the schedule is due again.
    pub async fn turn(&self) -> anyhow::Result<bool> {
        let now = self.clock.now();
        let mut transaction = self.resources.database.pool.begin().await?;
        let conn = &mut *transaction;
        let Some(schedule) = schedules::due(conn, now).await? else { return Ok(false) };
        let times = Timetable::parse(&schedule.cron, &schedule.zone).and_then(|timetable| {
            Ok((timetable.due(schedule.next_at, now, GRACE, schedule.missed)?, timetable))
        });
        let ((times, next), timetable) = match times {
            Ok(times) => times,
            Err(error) => {
                schedules::turned(conn, schedule.id, None, None, None, Some(&error.to_string())).await?;
                transaction.commit().await?;
                return Ok(true);
            }
        };
        let (mut run, mut error) = (None, None);
        for time in &times {
            match self.begin(conn, &schedule, timetable.day(*time)).await? {
                Ok(begun) => run = Some(begun),
                Err(told) => error = Some(told),
            }
        }
        let last = times.last().copied();
        schedules::turned(conn, schedule.id, last, Some(next), run, error.as_deref()).await?;
        transaction.commit().await?;
        tracing::info!(schedule = %schedule.id, runs = times.len(), ?run, ?error, next_at = %next, "schedule had its turn");
        Ok(true)
    }

    /// The run of a day, or why there is none.
    async fn begin(
        &self,
        conn: &mut sea_orm::sqlx::PgConnection,
        schedule: &Schedule,
        fecha: chrono::NaiveDate,
    ) -> anyhow::Result<Result<Uuid, String>> {
        let wish = Wish {
            fecha,
            params: schedule.params.clone(),
            force: false,
            user: schedule.created_by.clone(),
            correlation_id: Some(format!("schedule-{}", schedule.id)),
        };
        Ok(match ask(conn, &self.resources, wish).await? {
            Asked::New(run) | Asked::Same(run) => Ok(run.id),
            Asked::NoCampaigns => Err(format!("No se encontraron campañas para la fecha {fecha}")),
        })
    }
}
