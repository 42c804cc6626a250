//! Single messages: each is a row of the ledger in its day's own campaign, with a slice of its own. SQL by hand, as the ledger's.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    QuerySelect as _,
    entity::prelude::*,
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool, Row as _},
};
use uuid::Uuid;

use super::{
    campaigns::{Campaign, Column, Entity},
    ledger::{COLUMNS, Row, partition},
};
use crate::domain::{campaign::State, windows::Clocks};
use chassis::db::{Orm, decode};

/// The campaign of a day's single messages, nobody else's to change until the transaction ends.
pub async fn lock_day(conn: &mut PgConnection, date: NaiveDate) -> Result<Option<Campaign>, DbErr> {
    Entity::find()
        .filter(Column::Single.eq(true))
        .filter(Column::Date.eq(date))
        .filter(Column::State.is_in([State::Running, State::Paused]))
        .lock_exclusive()
        .one(&Orm::on(conn))
        .await
}

/// Makes those who would begin a day's campaign take turns.
pub async fn turn(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("select pg_advisory_xact_lock(hashtext(current_schema() || '.single messages'))")
        .execute(conn)
        .await
        .map(drop)
}

/// A message to be.
#[derive(Clone, Debug)]
pub struct New<'a> {
    pub phone: &'a str,
    pub lada: &'a str,
    pub state_code: Option<&'a str>,
    pub text: &'a str,
    /// The only sender that it may have; none: any of its campaign's.
    pub sender: Option<&'a str>,
    pub expires_at: DateTime<Utc>,
    /// The job that sends it.
    pub job: Uuid,
}

/// Writes a message at the end of a day's campaign, which the caller has locked, with its slice and what both change.
pub async fn insert(
    conn: &mut PgConnection,
    campaign: i32,
    date: NaiveDate,
    position: i32,
    new: &New<'_>,
) -> sqlx::Result<()> {
    let statement = format!(
        "with written as (
             insert into {} (campaign, position, date, phone_e164, state_code, lada, single, vars, variant, expires_at)
             values ($1, $2, $3, $4, $5, $6, $2, array_remove(array[$7::text, $8::text], null), 0, $9)),
         cut as (
             insert into slices (campaign, first_position, last_position, zone, state, job, granted, fed_at)
             values ($1, $2, $2, $10, 'fed', $11, 1, now())),
         counted as (
             insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros)
             values ($1, coalesce($5, ''), date_trunc('hour', now(), 'UTC'), 0, '', 0, 1, 0, 0))
         update campaigns set matched = matched + 1, recipients = recipients + 1, version = version + 1, updated_at = now()
         where number = $1",
        partition(date)
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(campaign)
        .bind(position)
        .bind(date)
        .bind(new.phone)
        .bind(new.state_code)
        .bind(new.lada)
        .bind(new.text)
        .bind(new.sender)
        .bind(new.expires_at)
        .bind(Clocks::Anywhere.code())
        .bind(new.job)
        .execute(conn)
        .await
        .map(drop)
}

/// The only sender that a single message may have, where its values name one behind its text. Not the row's `sender`, which is
/// that of its last attempt.
pub fn wanted_sender(vars: &[String]) -> Option<&str> {
    vars.get(1).map(String::as_str)
}

/// A message, and whose it is.
#[derive(Clone, Debug)]
pub struct Found {
    pub campaign: i32,
    pub date: NaiveDate,
    pub row: Row,
}

/// Messages to a phone since a day, of whatever campaign, the latest first, behind one of them.
pub async fn of_phone(
    pool: &PgPool,
    phone: &str,
    since: NaiveDate,
    behind: Option<(NaiveDate, i32, i32)>,
    limit: i64,
) -> sqlx::Result<Vec<Found>> {
    let query = format!(
        "select campaign, date, {COLUMNS} from messages where phone_e164 = $1 and date >= $2
             and ($3::date is null or (date, campaign, position) < ($3, $4, $5))
         order by date desc, campaign desc, position desc limit $6"
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(phone)
        .bind(since)
        .bind(behind.map(|(date, _, _)| date))
        .bind(behind.map(|(_, campaign, _)| campaign))
        .bind(behind.map(|(_, _, position)| position))
        .bind(limit)
        .fetch_all(pool)
        .await?;
    let found = |row: sqlx::postgres::PgRow| -> sqlx::Result<Found> {
        Ok(Found { campaign: row.try_get("campaign")?, date: row.try_get("date")?, row: decode(row)? })
    };
    rows.into_iter().map(found).collect()
}
