//! What is kept of people only for a time: when that is over it is deleted, in batches, by whichever process comes first.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};

use crate::{
    config::Keep,
    domain::campaign::State,
    jobs::{load_audience, prepare_campaign, send_slice},
    storage::{audience_files, ledger},
};

/// Rows a statement.
const BATCH: i64 = 5_000;
/// Phones a statement.
const WINDOW: i64 = 20_000;

/// How much was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Days of the ledger.
    pub days: usize,
    /// Rows of all other tables.
    pub rows: u64,
}

/// Deletes what is past its time. Several processes may do so at once.
///
/// # Errors
/// The database.
pub async fn delete(pool: &PgPool, keep: &Keep, today: NaiveDate) -> sqlx::Result<Deleted> {
    let since = |days: u32| today - Days::new(u64::from(days));
    let ledger_since = since(keep.ledger_days);
    let mut deleted = Deleted { days: ledger::drop_before(pool, ledger_since).await?, rows: 0 };
    // What belongs to messages goes with them: slices, too, for by them messages are sent again.
    let of_campaign =
        "campaign in (select number from campaigns where date < $1 and finished_at is not null)";
    for table in ["slices", "unheard_messages", "earlier_attempts", "campaign_sweeps", "campaign_outcomes"] {
        deleted.rows += batches(pool, table, of_campaign, ledger_since).await?;
    }
    deleted.rows += phones(pool, ledger_since).await?;
    let inbound_since = since(keep.inbound_days);
    deleted.rows += batches(pool, "inbound_messages", "received_at < $1", inbound_since).await?;
    deleted.rows += batches(pool, "help_answers", "day < $1", inbound_since).await?;
    deleted.rows += batches(pool, "provider_reports", "failed_at < $1", since(keep.reports_days)).await?;
    let kinds = [send_slice::KIND, send_slice::SINGLE, prepare_campaign::KIND, load_audience::KIND];
    let ended_before = since(keep.jobs_days).and_time(NaiveTime::MIN).and_utc();
    deleted.rows += ::jobs::delete_ended(pool, &kinds, ended_before, &[]).await?;
    Ok(deleted)
}

/// Lets files go whose people were an audience long enough, and deletes the rows of all that were let go: those, and what
/// somebody deleted, or did not load. One that a campaign is about to read stays. Gives how many rows were deleted.
///
/// # Errors
/// The database.
pub async fn audiences(pool: &PgPool, keep: &Keep, now: DateTime<Utc>) -> anyhow::Result<u64> {
    let before = now - TimeDelta::days(i64::from(keep.audiences_days));
    for old in audience_files::older_than(pool, before).await? {
        let mut transaction = pool.begin().await?;
        // Whoever starts a campaign to it holds it.
        audience_files::lock(&mut transaction, old.id).await?;
        let about = [State::Scheduled, State::Preparing];
        if audience_files::campaigns_of(&mut transaction, old.id, &about).await?.is_empty() {
            audience_files::let_go(&mut transaction, old.id).await?;
        }
        transaction.commit().await?;
    }
    Ok(audience_files::empty(pool).await?)
}

/// Deletes the rows of a table that meet a condition of `$1`, a day, so many at a time. Neither comes from a stranger.
async fn batches(pool: &PgPool, table: &str, condition: &str, day: NaiveDate) -> sqlx::Result<u64> {
    let statement = format!(
        "delete from {table} where ctid = any (array(
             select ctid from {table} where {condition} limit {BATCH} for update skip locked))"
    );
    let mut deleted = 0;
    loop {
        let done = sqlx::query(AssertSqlSafe(statement.clone())).bind(day).execute(pool).await?;
        deleted += done.rows_affected();
        if done.rows_affected() < BATCH.unsigned_abs() {
            return Ok(deleted);
        }
    }
}

/// Deletes what phones were sent last, and rows of phones that nothing was sent to after all: their turn was given back. No index
/// has that: they are looked through in windows, each a short statement.
async fn phones(pool: &PgPool, day: NaiveDate) -> sqlx::Result<u64> {
    let (mut deleted, mut after) = (0, String::new());
    loop {
        let (last, gone): (Option<String>, i64) = sqlx::query_as(
            "with looked as materialized (
                 select phone_e164 from phone_sends where phone_e164 > $1 order by phone_e164 limit $2),
             gone as (
                 delete from phone_sends p using looked l
                 where p.phone_e164 = l.phone_e164
                     and coalesce(greatest(p.last_sent_at, p.marketing_at), '-infinity') < $3 returning 1)
             select (select max(phone_e164) from looked), (select count(*) from gone)",
        )
        .bind(&after)
        .bind(WINDOW)
        .bind(day)
        .fetch_one(pool)
        .await?;
        deleted += gone.unsigned_abs();
        match last {
            Some(last) => after = last,
            None => return Ok(deleted),
        }
    }
}
