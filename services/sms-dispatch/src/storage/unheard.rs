//! `unheard_messages`: messages of which nothing more was heard for a while, to be asked about at their providers. What became
//! unknown is written here with its change; what a provider took is looked for once, a while after its slice was sent. So one of
//! them costs a row, and not a look through the ledger. SQL by hand: UNNEST, and rows that are taken by a condition.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, AssertSqlSafe, PgConnection},
};

use super::ledger::{self, has_day, partition};
use crate::domain::message_state::MessageState;
use chassis::db::decode;

/// States of which more is expected.
pub const OPEN: [MessageState; 3] = [MessageState::Unknown, MessageState::Accepted, MessageState::Sent];

/// Messages of which nothing is known from now on.
pub async fn add(conn: &mut PgConnection, campaign: i32, positions: &[i32]) -> sqlx::Result<()> {
    if positions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into unheard_messages (campaign, position, last_at, unknown)
         select $1, position, now(), true from unnest($2::int[]) position order by position
         on conflict (campaign, position) do update
         set last_at = excluded.last_at, asked = false, times = 0, unknown = true",
    )
    .bind(campaign)
    .bind(positions)
    .execute(conn)
    .await
    .map(drop)
}

/// A slice that was sent a while ago and not looked through since.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Unswept {
    pub campaign: i32,
    pub date: NaiveDate,
    pub first_position: i32,
    pub last_position: i32,
    /// When it was given to a job for the last time.
    pub fed_at: Option<DateTime<Utc>>,
}

/// Some of those that were given to a job before `until` for the last time, of campaigns of days since `since`.
pub async fn unswept(
    conn: &mut PgConnection,
    since: NaiveDate,
    until: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Unswept>> {
    let rows = sqlx::query(
        "select s.campaign, c.date, s.first_position, s.last_position, s.fed_at
         from campaigns c cross join lateral (
             select * from slices s where s.campaign = c.number and s.swept_at is null and s.state <> 'fed'
                 and (s.fed_at is not null or s.state = 'done') and coalesce(s.fed_at <= $2, true)
             order by s.fed_at limit $3) s
         where c.date >= $1 limit $3",
    )
    .bind(since)
    .bind(until)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// Looks through a slice for messages of which more is expected, and notes that it did. A slice that
/// is given to a job again is looked through again. False where requests of it are under way: nothing is known of them yet.
pub async fn sweep(conn: &mut PgConnection, slice: &Unswept) -> sqlx::Result<bool> {
    let has_day = has_day(conn, slice.date).await?;
    let range = (slice.first_position, slice.last_position);
    if has_day && ledger::unsettled(conn, slice.date, slice.campaign, range).await?.submitting > 0 {
        return Ok(false);
    }
    let noted = sqlx::query(
        "update slices set swept_at = now()
         where campaign = $1 and first_position = $2 and fed_at is not distinct from $3 and state <> 'fed'",
    )
    .bind(slice.campaign)
    .bind(slice.first_position)
    .bind(slice.fed_at)
    .execute(&mut *conn)
    .await?;
    // Past retention there is nothing to look through.
    if noted.rows_affected() == 0 || !has_day {
        return Ok(true);
    }
    let statement = format!(
        "insert into unheard_messages (campaign, position, last_at, unknown)
         select campaign, position, changed_at, state = {} from {}
         where campaign = $1 and position between $2 and $3 and state = any($4) order by position
         on conflict (campaign, position) do nothing",
        MessageState::Unknown.code(),
        partition(slice.date)
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(slice.campaign)
        .bind(slice.first_position)
        .bind(slice.last_position)
        .bind(OPEN.map(MessageState::code).to_vec())
        .execute(conn)
        .await
        .map(|_| true)
}

/// Which messages are to be asked about.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Those of which nobody knows whether they went out, or those that a provider has.
    pub unknown: bool,
    /// Nothing was heard of them since, and they were never asked about.
    pub unheard_since: DateTime<Utc>,
    /// They were asked about once before that, or twice, and twice as long ago, and so on.
    pub asked_before: DateTime<Utc>,
}

/// As a condition of a row `u`, with [`Due`] as `$1` to `$3`. The pause is doubled four times at most.
const IS_DUE: &str = "u.unknown = $1 and (not u.asked and u.last_at <= $2
    or u.asked and u.last_at + (now() - $3::timestamptz) * (2 ^ least(greatest(u.times, 1) - 1, 4)) <= now())";

/// The campaigns of days since `since` that have messages to be asked about, those first that wait longest.
pub async fn campaigns(conn: &mut PgConnection, since: NaiveDate, due: Due) -> sqlx::Result<Vec<uuid::Uuid>> {
    let query = format!(
        "with recursive numbers as (
             (select campaign from unheard_messages order by campaign limit 1)
             union all
             select (select u.campaign from unheard_messages u where u.campaign > numbers.campaign order by u.campaign limit 1)
             from numbers where numbers.campaign is not null)
         select c.id from numbers n join campaigns c on c.number = n.campaign
             left join campaign_sweeps s on s.campaign = c.number
         where c.date >= $4 and coalesce(s.due_at <= now(), true) and exists (
             select from unheard_messages u where u.campaign = c.number and {IS_DUE})
         order by coalesce(s.due_at, c.started_at)"
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .bind(due.unknown)
        .bind(due.unheard_since)
        .bind(due.asked_before)
        .bind(since)
        .fetch_all(conn)
        .await
}

/// The positions of a campaign's messages that are to be asked about, in their order, behind one of them.
pub async fn due(
    conn: &mut PgConnection,
    campaign: i32,
    due: Due,
    after: i32,
    limit: i64,
) -> sqlx::Result<Vec<i32>> {
    let query = format!(
        "select u.position from unheard_messages u where u.campaign = $4 and u.position > $5 and {IS_DUE}
         order by u.position limit $6"
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .bind(due.unknown)
        .bind(due.unheard_since)
        .bind(due.asked_before)
        .bind(campaign)
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await
}

/// Notes that messages were asked about, and forgets those of which no more is expected.
pub async fn asked(conn: &mut PgConnection, campaign: i32, asked: &[i32], ended: &[i32]) -> sqlx::Result<()> {
    let all = || asked.iter().chain(ended);
    let (Some(first), Some(last)) = (all().min(), all().max()) else { return Ok(()) };
    // Positions that were due lie together. By statistics from before the campaign it has no rows: without the range all of them
    // would be read.
    sqlx::query(
        "with gone as (
             delete from unheard_messages where campaign = $1 and position between $4 and $5 and position = any($3))
         update unheard_messages set asked = true, last_at = now(), times = least(times + 1, 1000)
         where campaign = $1 and position between $4 and $5 and position = any($2)",
    )
    .bind(campaign)
    .bind(asked)
    .bind(ended)
    .bind(first)
    .bind(last)
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that a campaign is asked about again then, whatever is due.
pub async fn put_off(conn: &mut PgConnection, campaign: i32, due_at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "insert into campaign_sweeps (campaign, due_at) values ($1, $2)
         on conflict (campaign) do update set due_at = excluded.due_at",
    )
    .bind(campaign)
    .bind(due_at)
    .execute(conn)
    .await
    .map(drop)
}
