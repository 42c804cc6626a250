//! What the APIs of schedules share. Their documents are each service's own: clients know them under different names.

use chassis::Problem;
use sea_orm::{DatabaseConnection, TransactionTrait as _};
use serde::Serialize;
use uuid::Uuid;

use crate::{BadSchedule, Missed, Schedule, Timetable, row};

/// A schedule to be.
pub struct NewSchedule<P> {
    /// Five fields: minute, hour, day, month, day of the week.
    pub cron: String,
    /// IANA's name of the zone that `cron` is in.
    pub zone: String,
    /// What becomes of times at which the service was not running.
    pub missed: Missed,
    /// What to begin.
    pub params: P,
    /// Whether it begins anything.
    pub active: bool,
    /// Who asks for it: a token's subject.
    pub created_by: String,
}

impl<P: Serialize> NewSchedule<P> {
    /// Writes it under a new id, or in the place of the schedule that has `id`. It does not fire for times that passed before,
    /// by the clock that schedules go by; nor again for the one that it fires for meanwhile.
    ///
    /// # Errors
    /// 422 for a time or a zone that can't be; 404 where no schedule has `id` (any more); the database.
    pub async fn put(self, orm: &DatabaseConnection, id: Option<Uuid>) -> Result<Schedule, Problem> {
        let refused = |error: BadSchedule| Problem::unprocessable("invalid_schedule", error.to_string());
        let timetable = Timetable::parse(&self.cron, &self.zone).map_err(refused)?;
        let transaction = orm.begin().await?;
        if let Some(id) = id
            && row::lock(&transaction, id).await?.is_none()
        {
            return Err(not_found(&id.to_string()));
        }
        // Asked when no turn is under way: what one has just acted on has passed by then.
        let now = row::moment(&transaction).await?;
        let schedule = Schedule {
            id: id.unwrap_or_else(Uuid::now_v7),
            next_at: timetable.next(now).map_err(refused)?,
            cron: self.cron,
            zone: self.zone,
            missed: self.missed,
            params: serde_json::to_value(self.params).map_err(Problem::internal)?,
            active: self.active,
            last_at: None,
            last_run: None,
            last_error: None,
            waiting_since: None,
            created_by: self.created_by,
            created_at: now,
            version: 1,
        };
        let written = match id {
            None => row::put(&transaction, schedule).await?,
            // Never a new one: it may have been deleted since its id was looked up.
            Some(id) => {
                row::replace(&transaction, schedule).await?.ok_or_else(|| not_found(&id.to_string()))?
            }
        };
        transaction.commit().await?;
        Ok(written)
    }
}

fn not_found(id: &str) -> Problem {
    Problem::not_found(format!("Programación {id} no encontrada"))
}

/// The schedule that a path names.
///
/// # Errors
/// 404; the database.
pub async fn named(orm: &DatabaseConnection, id: &str) -> Result<Schedule, Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| not_found(id))?;
    row::get(orm, uuid).await?.ok_or_else(|| not_found(id))
}

/// Deletes the schedule that a path names.
///
/// # Errors
/// 404; the database.
pub async fn delete(orm: &DatabaseConnection, id: &str) -> Result<(), Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| not_found(id))?;
    if row::delete(orm, uuid).await? { Ok(()) } else { Err(not_found(id)) }
}
