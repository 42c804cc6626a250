use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, PgConnection, Row as _};
use uuid::Uuid;

use crate::{Error, Job, Lease, State};

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The caller holds the job. It may be one whose end was asked for (`cancel_requested_at`).
    Claimed(Job, Lease),
    /// The caller holds it, but it has had all its attempts: end it with [`crate::fail`], with what its
    /// domain has to say about that, in the same transaction.
    Exhausted(Job, Lease),
    /// Somebody works on it, and holds it until then. If they die, the sweeper notices.
    Busy {
        /// When their lease lapses unless they extend it.
        until: DateTime<Utc>,
    },
    /// It has ended.
    Finished(Job),
    /// It was deferred: the sweeper nudges it when it is due.
    NotDue,
    /// There is no such job.
    Missing,
}

/// Takes the job for `owner` (a process, as `host:pid`), for `lease`, in the caller's transaction: commit
/// before the work begins. Counts an attempt.
///
/// # Errors
/// The database.
pub async fn claim(conn: &mut PgConnection, id: Uuid, owner: &str, lease: Duration) -> Result<Claim, Error> {
    let Some(row) = sqlx::query(
        "SELECT jobs.*, next_run_at <= clock_timestamp() AS due, lease_until <= clock_timestamp() AS lapsed
         FROM jobs WHERE id = $1 FOR UPDATE",
    )
    .bind(id)
    .fetch_optional(&mut *conn)
    .await?
    else {
        return Ok(Claim::Missing);
    };
    let job = Job::read(&row)?;
    let free = match job.state {
        State::Completed | State::Failed | State::Cancelled => return Ok(Claim::Finished(job)),
        State::Pending => row.try_get("due")?,
        State::Running => row.try_get::<Option<bool>, _>("lapsed")?.unwrap_or(true),
    };
    if !free {
        return Ok(job.lease_until.map_or(Claim::NotDue, |until| Claim::Busy { until }));
    }
    // Its end was asked for: whoever claims it ends it, which is no attempt at its work.
    let exhausted = job.attempts >= job.max_attempts && job.cancel_requested_at.is_none();
    let token = Uuid::new_v4();
    let owner = format!("{owner}:{}", token.simple());
    let row = sqlx::query(
        "UPDATE jobs SET state = 'running', owner = $2, epoch = epoch + 1,
                lease_until = clock_timestamp() + make_interval(secs => $3),
                attempts = least(attempts + 1, max_attempts), nudged_at = NULL, nudges = 0,
                started_at = coalesce(started_at, now()), version = version + 1, updated_at = now()
         WHERE id = $1 RETURNING *",
    )
    .bind(id)
    .bind(&owner)
    .bind(lease.as_secs_f64())
    .fetch_one(conn)
    .await?;
    let job = Job::read(&row)?;
    let lease = Lease { job: id, epoch: job.epoch, token, owner, length: lease };
    Ok(if exhausted { Claim::Exhausted(job, lease) } else { Claim::Claimed(job, lease) })
}
