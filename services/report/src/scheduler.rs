//! Starts the runs that schedules ask for.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use schedules::{Begin, Begun, Schedule, Timetable};
use sea_orm::sqlx::PgConnection;

use crate::{
    Resources,
    request_run::{Requested, RunRequest, request_run},
};

/// Begins the run of the day before.
pub struct BeginRuns {
    pub resources: Resources,
}

/// The day that a run which is due at `at` reports: the one before, where the schedule lives.
fn reported_day(timetable: &Timetable, at: DateTime<Utc>) -> NaiveDate {
    let today = timetable.local_day(at);
    today.pred_opt().unwrap_or(today)
}

#[async_trait]
impl Begin for BeginRuns {
    async fn begin(
        &self,
        conn: &mut PgConnection,
        schedule: &Schedule,
        timetable: &Timetable,
        time: DateTime<Utc>,
    ) -> anyhow::Result<Begun> {
        let fecha = reported_day(timetable, time);
        let request = RunRequest {
            fecha,
            params: serde_json::from_value(schedule.params.clone())?,
            force: false,
            user: schedule.created_by.clone(),
            correlation_id: Some(format!("schedule-{}", schedule.id)),
        };
        Ok(match request_run(conn, &self.resources, request).await? {
            Requested::New(run) | Requested::Same(run) => Begun::Run(run.id),
            Requested::NoCampaigns => {
                Begun::Nothing(format!("No se encontraron campañas para la fecha {fecha}"))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_reports_the_day_before_where_its_schedule_lives() {
        let daily = Timetable::parse("0 6 * * *", "America/Bogota").expect("a timetable");
        let reported = |at: &str| reported_day(&daily, at.parse().expect("a time")).to_string();
        assert_eq!(reported("2025-01-28T11:00:00Z"), "2025-01-27");
        // Where it is still the 27th.
        assert_eq!(reported("2025-01-28T03:00:00Z"), "2025-01-26");
    }
}
