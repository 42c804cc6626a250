//! `slices`: ranges of a campaign's positions, which are fed to workers one at a time. SQL by hand: keys of two columns, and
//! states that change under a condition.

use chrono::{DateTime, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, PgConnection, PgPool},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use chassis::db::decode;

/// A range of positions, all of one time zone.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Slice {
    pub first_position: i32,
    pub last_position: i32,
    /// The clocks that its recipients live by.
    pub zone: i16,
}

/// What a job that sends is told, in its row's `params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub campaign: i32,
    pub first: i32,
    pub last: i32,
    /// How many messages it may send.
    pub messages: i32,
}

/// Why a slice waits, as progress shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Outside of the hours in which its recipients may be written to.
    Hours,
    /// The provider or all senders are closed.
    Provider,
    /// What was sent first has no reports yet.
    Ramp,
    /// Work on it failed.
    Error,
    /// The campaign would cost more than it may.
    Budget,
}

impl Wait {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hours => "horario",
            Self::Provider => "proveedor",
            Self::Ramp => "rampa",
            Self::Error => "error",
            Self::Budget => "presupuesto",
        }
    }
}

/// The zones of a campaign that are not done: one look at the index for each, however many slices there are.
pub async fn zones(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<Vec<i16>> {
    sqlx::query_scalar(
        "with recursive zones as (
             (select zone from slices where campaign = $1 and state <> 'done' order by zone limit 1)
             union all
             select (select s.zone from slices s where s.campaign = $1 and s.state <> 'done' and s.zone > zones.zone
                     order by s.zone limit 1)
             from zones where zones.zone is not null)
         select zone from zones where zone is not null",
    )
    .bind(campaign)
    .fetch_all(conn)
    .await
}

/// What of a campaign is with workers.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct WithWorkers {
    pub messages: i64,
    /// When one of its slices was last given to a job, as far as that is not long ago.
    pub fed_at: Option<DateTime<Utc>>,
}

/// What of a campaign is with workers.
pub async fn with_workers(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<WithWorkers> {
    let row = sqlx::query(
        "select coalesce(sum(granted), 0)::bigint as messages,
                (select fed_at from slices where campaign = $1 and swept_at is null and fed_at is not null
                 order by fed_at desc limit 1) as fed_at
         from slices where campaign = $1 and state = 'fed'",
    )
    .bind(campaign)
    .fetch_one(conn)
    .await?;
    decode(row)
}

/// The next slice of these zones that is due, locked.
pub async fn next(conn: &mut PgConnection, campaign: i32, zones: &[i16]) -> sqlx::Result<Option<Slice>> {
    let row = sqlx::query(
        "select first_position, last_position, zone from slices
         where campaign = $1 and state = 'waiting' and zone = any($2) and due_at <= now()
         order by first_position limit 1 for update skip locked",
    )
    .bind(campaign)
    .bind(zones)
    .fetch_optional(conn)
    .await?;
    row.map(decode).transpose()
}

/// How many slices of these zones are with workers or due, `most` at most.
pub async fn open(conn: &mut PgConnection, campaign: i32, zones: &[i16], most: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from (
             select from slices where campaign = $1 and state <> 'done' and zone = any($2)
                 and (state = 'fed' or due_at <= now()) limit $3) open",
    )
    .bind(campaign)
    .bind(zones)
    .bind(most)
    .fetch_one(conn)
    .await
}

/// Gives a slice to a job.
pub async fn feed(conn: &mut PgConnection, job: Uuid, grant: Grant) -> sqlx::Result<()> {
    sqlx::query(
        "update slices set state = 'fed', job = $3, granted = $4, reason = null, fed_at = now(), swept_at = null
         where campaign = $1 and first_position = $2",
    )
    .bind(grant.campaign)
    .bind(grant.first)
    .bind(job)
    .bind(grant.messages)
    .execute(conn)
    .await
    .map(drop)
}

/// Holds a slice until the transaction ends.
pub async fn lock(conn: &mut PgConnection, campaign: i32, first: i32) -> sqlx::Result<()> {
    sqlx::query("select from slices where campaign = $1 and first_position = $2 for update")
        .bind(campaign)
        .bind(first)
        .execute(conn)
        .await
        .map(drop)
}

/// Takes a slice back from its job: done, or due again then. A job that has it no more changes nothing.
pub async fn give_back(
    conn: &mut PgConnection,
    job: Uuid,
    grant: Grant,
    due: Option<(DateTime<Utc>, Option<Wait>)>,
) -> sqlx::Result<()> {
    sqlx::query(
        "update slices set state = case when $4::timestamptz is null then 'done' else 'waiting' end, job = null, granted = 0,
             due_at = coalesce($4, due_at), reason = $5
         where campaign = $1 and first_position = $2 and job = $3",
    )
    .bind(grant.campaign)
    .bind(grant.first)
    .bind(job)
    .bind(due.map(|(at, _)| at))
    .bind(due.and_then(|(_, why)| why).map(Wait::name))
    .execute(conn)
    .await
    .map(drop)
}

/// Messages that are to be sent after all are in slices that may be done: those wait again. All of these slices are held,
/// in the order of their positions: one whose job is about to end it is ended after this transaction, or before.
pub async fn open_again(conn: &mut PgConnection, campaign: i32, positions: &[i32]) -> sqlx::Result<()> {
    sqlx::query(
        "with held as materialized (
             select first_position, state from slices where campaign = $1 and first_position in (
                 select s.first_position from unnest($2::int[]) position cross join lateral (
                     select first_position, last_position from slices
                     where campaign = $1 and first_position <= position order by first_position desc limit 1) s
                 where position <= s.last_position)
             order by first_position for update)
         update slices s set state = 'waiting', due_at = now(), reason = null
         from held where s.campaign = $1 and s.first_position = held.first_position and held.state = 'done'",
    )
    .bind(campaign)
    .bind(positions)
    .execute(conn)
    .await
    .map(drop)
}

/// Ends a slice that its job has left while requests were under way: the last of them is settled. One that a job has is left to
/// it. The caller holds it.
pub async fn settle(conn: &mut PgConnection, campaign: i32, first: i32) -> sqlx::Result<()> {
    sqlx::query(
        "update slices set state = 'done', reason = null
         where campaign = $1 and first_position = $2 and state = 'waiting'",
    )
    .bind(campaign)
    .bind(first)
    .execute(conn)
    .await
    .map(drop)
}

/// Puts a slice that its job has left off until then, of which something is to be sent by a late answer. What it waits for longer
/// stays: the answer of one sender says nothing of the pause that another one asked for. One that a job has is left to it. The
/// caller holds it.
pub async fn put_off(
    conn: &mut PgConnection,
    campaign: i32,
    first: i32,
    due: DateTime<Utc>,
    why: Option<Wait>,
) -> sqlx::Result<()> {
    sqlx::query(
        // Without a reason it waits for the deadlines of its requests alone.
        "update slices set due_at = $3, reason = $4
         where campaign = $1 and first_position = $2 and state = 'waiting' and (reason is null or due_at < $3)",
    )
    .bind(campaign)
    .bind(first)
    .bind(due)
    .bind(why.map(Wait::name))
    .execute(conn)
    .await
    .map(drop)
}

/// Has the slices that wait looked at now.
pub async fn hurry(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<()> {
    sqlx::query(
        "update slices set due_at = now(), reason = null where campaign = $1 and state = 'waiting' and due_at > now()",
    )
        .bind(campaign)
        .execute(conn)
        .await
        .map(drop)
}

/// A slice that no job has and that is not done, locked: of a campaign that was cancelled.
pub async fn next_open(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<Option<Slice>> {
    let row = sqlx::query(
        "select first_position, last_position, zone from slices
         where campaign = $1 and state = 'waiting' and due_at <= now() order by first_position limit 1 for update skip locked",
    )
    .bind(campaign)
    .fetch_optional(conn)
    .await?;
    row.map(decode).transpose()
}

/// Ends a slice that no job has; none: it is looked at again after so many seconds.
pub async fn close(
    conn: &mut PgConnection,
    campaign: i32,
    first: i32,
    again_in: Option<f64>,
) -> sqlx::Result<()> {
    sqlx::query(
        "update slices set state = case when $3::double precision is null then 'done' else 'waiting' end,
             due_at = now() + make_interval(secs => coalesce($3, 0))
         where campaign = $1 and first_position = $2 and state = 'waiting'",
    )
    .bind(campaign)
    .bind(first)
    .bind(again_in)
    .execute(conn)
    .await
    .map(drop)
}

/// Whether all of a campaign's slices are done.
pub async fn all_done(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<bool> {
    sqlx::query_scalar("select not exists (select from slices where campaign = $1 and state <> 'done')")
        .bind(campaign)
        .fetch_one(conn)
        .await
}

/// Slices of a zone that wait.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Waiting {
    pub zone: i16,
    /// What each of them waits for until `due`; none where nothing but its turn, its zone's hours or its campaign's providers
    /// keep it.
    pub reason: Option<String>,
    /// At most: of a slice that is sent in part all are counted.
    pub messages: i64,
    pub due: Option<DateTime<Utc>>,
}

/// What a campaign's slices wait for.
pub async fn waits(pool: &PgPool, campaign: i32) -> sqlx::Result<Vec<Waiting>> {
    let rows = sqlx::query(
        "select zone, case when due_at > now() then reason end as reason,
                sum(last_position - first_position + 1)::bigint as messages, min(due_at) filter (where due_at > now()) as due
         from slices where campaign = $1 and state = 'waiting' group by 1, 2 order by 1, 2",
    )
    .bind(campaign)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(decode).collect()
}
