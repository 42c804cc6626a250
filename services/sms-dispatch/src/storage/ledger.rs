//! `messages`: the ledger, a row a recipient, a partition a campaign day. No entity: SQL by hand reads and writes batches, and
//! in the partition itself, for the table would be planned over all its days.

use chrono::{DateTime, Days, NaiveDate, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool},
};
use uuid::Uuid;

use crate::{
    advisory_lock::{AdvisoryLock, MESSAGE_DAYS},
    domain::{
        message_id::MessageId,
        message_state::{MessageState, Standing},
    },
};
use chassis::db::decode;

/// What of a row is read.
pub(super) const COLUMNS: &str = "position, phone_e164, contact_id, state_code, vars, variant, expires_at, state, attempt, version, changed_at, deadline,
    sender, parts, cost_micros, currency, provider_id, sent_at, code, reason, repeatable, unasked";

/// A message's row.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct Row {
    /// From 1.
    pub position: i32,
    pub phone_e164: String,
    /// Where the phone came from; contacts may return under other ids.
    pub contact_id: Option<i64>,
    pub state_code: Option<String>,
    /// The values of the template's names.
    pub vars: Vec<String>,
    /// Which of the campaign's texts.
    pub variant: i16,
    /// After which it is not sent any more.
    pub expires_at: Option<DateTime<Utc>>,
    state: i16,
    pub attempt: i16,
    /// Raised with every change.
    pub version: i32,
    pub changed_at: DateTime<Utc>,
    /// Until when a request of this attempt may be under way; of an unknown, may have been.
    pub deadline: Option<DateTime<Utc>>,
    pub sender: Option<String>,
    pub parts: i16,
    pub cost_micros: i64,
    /// ISO 4217; none where nothing is known of the cost.
    pub currency: Option<String>,
    pub provider_id: Option<Uuid>,
    /// Since when a provider is known to have it.
    pub sent_at: Option<DateTime<Utc>>,
    /// The provider's code, or ours.
    pub code: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Of one that failed: whether sending it once more can make sense.
    pub repeatable: bool,
    /// Attempts in which nothing was asked of a provider, or that it refused for a reason that has nothing to do with the
    /// message; and those from before a person had it sent again.
    pub unasked: i16,
}

impl Row {
    pub fn state(&self) -> MessageState {
        // Only this crate writes the column; a number that is none is left alone by every rule.
        MessageState::from_code(self.state).unwrap_or(MessageState::Unknown)
    }

    pub fn set_state(&mut self, state: MessageState) {
        self.state = state.code();
    }

    /// Attempts that count: in which a provider was asked, and decided about this message.
    pub fn asked(&self) -> i16 {
        self.attempt.saturating_sub(self.unasked)
    }

    pub fn standing(&self) -> Standing {
        Standing { state: self.state(), attempt: self.attempt }
    }

    /// The id that report and providers know it by.
    pub fn id(&self, date: NaiveDate, campaign: i32) -> Uuid {
        MessageId { date, campaign, position: self.position }.uuid()
    }
}

/// The partition of a day.
pub(super) fn partition(date: NaiveDate) -> String {
    format!("messages_{}", date.format("%Y%m%d"))
}

/// Makes the partition of a day, unless it is there.
pub async fn ensure_day(conn: &mut PgConnection, date: NaiveDate) -> sqlx::Result<()> {
    sqlx::query("select ensure_message_day($1)").bind(date).execute(conn).await.map(drop)
}

/// Whether a day has a partition: what is past retention has none.
pub async fn has_day(conn: &mut PgConnection, date: NaiveDate) -> sqlx::Result<bool> {
    sqlx::query_scalar("select to_regclass(current_schema() || '.' || $1) is not null")
        .bind(partition(date))
        .fetch_one(conn)
        .await
}

/// Drops the partitions of days before `day`. Gives how many. They are detached first, and concurrently: dropping one as a
/// partition would lock `messages` against everybody, behind its longest reader. What was broken off on the way is taken up
/// again.
pub async fn drop_before(pool: &PgPool, day: NaiveDate) -> sqlx::Result<usize> {
    // A table that is no partition any more has no row in pg_inherits.
    let old: Vec<(String, Option<bool>)> = sqlx::query_as(
        "select c.relname::text, i.inhdetachpending
         from pg_class c left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = to_regclass('messages')
         where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname ~ '^messages_[0-9]{8}$'
             and c.relname < $1
         order by i.inhdetachpending desc nulls last, 1",
    )
    .bind(partition(day))
    .fetch_all(pool)
    .await?;
    if old.is_empty() {
        return Ok(0);
    }
    // Of one table only one partition can be on its way out.
    let Some(_lock) = AdvisoryLock::try_take(pool, MESSAGE_DAYS).await? else { return Ok(0) };
    let mut conn = pool.acquire().await?;
    for (name, pending) in &old {
        let detach = match pending {
            Some(true) => Some("finalize"),
            Some(false) => Some("concurrently"),
            None => None,
        };
        if let Some(how) = detach {
            let statement = format!("alter table messages detach partition {name} {how}");
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *conn).await?;
        }
        sqlx::raw_sql(AssertSqlSafe(format!("drop table if exists {name}"))).execute(&mut *conn).await?;
    }
    Ok(old.len())
}

/// Rows of a campaign by their positions, nobody else's to change until the transaction ends, in the order in which everybody
/// locks them.
pub async fn lock(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    positions: &[i32],
) -> sqlx::Result<Vec<Row>> {
    by_position(conn, date, campaign, positions, "for update").await
}

/// Rows of a range in one state, the first ones. They are read, not locked.
pub async fn in_state(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    (first, last): (i32, i32),
    state: MessageState,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let query = format!(
        "select {COLUMNS} from {} where campaign = $1 and position between $2 and $3 and state = $4
         order by position limit $5",
        partition(date)
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(campaign)
        .bind(first)
        .bind(last)
        .bind(state.code())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(decode).collect()
}

/// Rows of a range whose requests are past their deadline, the first ones. They are read, not locked.
pub async fn lapsed(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    (first, last): (i32, i32),
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let query = format!(
        "select {COLUMNS} from {} where campaign = $1 and position between $2 and $3 and state = $4
             and coalesce(deadline < now(), true) order by position limit $5",
        partition(date)
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(campaign)
        .bind(first)
        .bind(last)
        .bind(MessageState::Submitting.code())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(decode).collect()
}

/// One row.
pub async fn get(conn: &mut PgConnection, id: MessageId) -> sqlx::Result<Option<Row>> {
    if !has_day(conn, id.date).await? {
        return Ok(None);
    }
    let query = format!("select {COLUMNS} from {} where campaign = $1 and position = $2", partition(id.date));
    let row =
        sqlx::query(AssertSqlSafe(query)).bind(id.campaign).bind(id.position).fetch_optional(conn).await?;
    row.map(decode).transpose()
}

/// The last position of a campaign; 0 where it has no rows.
pub async fn last_position(conn: &mut PgConnection, date: NaiveDate, campaign: i32) -> sqlx::Result<i32> {
    let query = format!("select coalesce(max(position), 0) from {} where campaign = $1", partition(date));
    sqlx::query_scalar(AssertSqlSafe(query)).bind(campaign).fetch_one(conn).await
}

/// A page of a campaign's rows behind a position and up to another, of one state where it is said.
pub async fn page(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    state: Option<MessageState>,
    (after, until): (i32, i32),
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let query = format!(
        "select {COLUMNS} from {} where campaign = $1 and position > $2 and position <= $3
             and ($4::smallint is null or state = $4) order by position limit $5",
        partition(date)
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(campaign)
        .bind(after)
        .bind(until)
        .bind(state.map(MessageState::code))
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(decode).collect()
}

/// What of a range is not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsettled {
    /// May still be sent.
    pub pending: i64,
    /// A request may be under way.
    pub submitting: i64,
    /// Until when, at the latest.
    pub until: Option<DateTime<Utc>>,
}

/// What of a range is not settled.
pub async fn unsettled(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    (first, last): (i32, i32),
) -> sqlx::Result<Unsettled> {
    let query = format!(
        "select count(*) filter (where state = $4), count(*) filter (where state = $5), max(deadline) filter (where state = $5)
         from {} where campaign = $1 and position between $2 and $3",
        partition(date)
    );
    let (pending, submitting, until) = sqlx::query_as(AssertSqlSafe(query))
        .bind(campaign)
        .bind(first)
        .bind(last)
        .bind(MessageState::Pending.code())
        .bind(MessageState::Submitting.code())
        .fetch_one(conn)
        .await?;
    Ok(Unsettled { pending, submitting, until })
}

/// Rows of a campaign by their positions. They are read, not locked.
pub async fn at(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    positions: &[i32],
) -> sqlx::Result<Vec<Row>> {
    by_position(conn, date, campaign, positions, "").await
}

/// Rows of a campaign by their positions, in their order. Look-ups one by one (`offset 0` keeps them apart): by statistics from
/// before the campaign it has no rows, so that the planner would read all of them and leave out those that are not wanted.
async fn by_position(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    positions: &[i32],
    locking: &str,
) -> sqlx::Result<Vec<Row>> {
    let mut positions = positions.to_vec();
    positions.sort_unstable();
    positions.dedup();
    let query = format!(
        "select {COLUMNS} from unnest($2::int[]) as wanted (place) cross join lateral (
             select * from {} m where m.campaign = $1 and m.position = wanted.place offset 0 {locking}) as m
         order by position",
        partition(date)
    );
    let rows = sqlx::query(AssertSqlSafe(query)).bind(campaign).bind(positions).fetch_all(conn).await?;
    rows.into_iter().map(decode).collect()
}

/// The providers' ids of a phone's messages, of campaigns of some weeks before `day` and all later ones.
pub async fn provider_ids(pool: &PgPool, phone: &str, day: NaiveDate) -> sqlx::Result<Vec<Uuid>> {
    // The day stands in the statement, as the planner leaves out other partitions so.
    let query = format!(
        "select provider_id from messages
         where phone_e164 = $1 and date >= '{}' and provider_id is not null",
        day - Days::new(60)
    );
    sqlx::query_scalar(AssertSqlSafe(query)).persistent(false).bind(phone).fetch_all(pool).await
}

/// Rows behind a position and up to another that a person may decide about: of which nobody knows since `before`, or that
/// failed and are repeatable. Locked, in the order of their positions.
pub async fn undecided(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    (states, before): (&[MessageState], DateTime<Utc>),
    (after, until): (i32, i32),
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let query = format!(
        "select {COLUMNS} from {} where campaign = $1 and position > $2 and position <= $3 and state = any($4)
             and changed_at <= $5 and (state = $6 or repeatable) order by position limit $7 for update",
        partition(date)
    );
    let rows = sqlx::query(AssertSqlSafe(query))
        .bind(campaign)
        .bind(after)
        .bind(until)
        .bind(states.iter().map(|state| state.code()).collect::<Vec<_>>())
        .bind(before)
        .bind(MessageState::Unknown.code())
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(decode).collect()
}

/// Writes rows that the caller has locked. They are found one by one, as [`lock`] finds them, and then where they lie.
pub async fn write(
    conn: &mut PgConnection,
    date: NaiveDate,
    campaign: i32,
    rows: &[&Row],
) -> sqlx::Result<()> {
    let statement = format!(
        "with t as materialized (
             select * from unnest($2::int[], $3::smallint[], $4::smallint[], $5::int[], $6::timestamptz[], $7::timestamptz[],
                     $8::text[], $9::smallint[], $10::bigint[], $11::uuid[], $12::timestamptz[], $13::text[], $14::text[],
                     $15::boolean[], $16::text[], $17::smallint[])
                 as t (position, state, attempt, version, changed_at, deadline, sender, parts, cost_micros, provider_id,
                       sent_at, code, reason, repeatable, currency, unasked)
         ), places as materialized (
             select m.place from t cross join lateral (
                 select ctid as place from {partition} m where m.campaign = $1 and m.position = t.position offset 0) m
         )
         update {partition} m set state = t.state, attempt = t.attempt, version = t.version, changed_at = t.changed_at,
             deadline = t.deadline, sender = t.sender, parts = t.parts, cost_micros = t.cost_micros,
             currency = t.currency, provider_id = t.provider_id, sent_at = t.sent_at, code = t.code, reason = t.reason,
             repeatable = t.repeatable, unasked = t.unasked
         from t where m.ctid = any(array(select place from places)) and m.position = t.position",
        partition = partition(date)
    );
    fn column<'a, T>(rows: &[&'a Row], of: impl Fn(&'a Row) -> T) -> Vec<T> {
        rows.iter().map(|row| of(row)).collect()
    }
    sqlx::query(AssertSqlSafe(statement))
        .bind(campaign)
        .bind(column(rows, |row| row.position))
        .bind(column(rows, |row| row.state))
        .bind(column(rows, |row| row.attempt))
        .bind(column(rows, |row| row.version))
        .bind(column(rows, |row| row.changed_at))
        .bind(column(rows, |row| row.deadline))
        .bind(column(rows, |row| row.sender.as_deref()))
        .bind(column(rows, |row| row.parts))
        .bind(column(rows, |row| row.cost_micros))
        .bind(column(rows, |row| row.provider_id))
        .bind(column(rows, |row| row.sent_at))
        .bind(column(rows, |row| row.code.as_deref()))
        .bind(column(rows, |row| row.reason.as_deref()))
        .bind(column(rows, |row| row.repeatable))
        .bind(column(rows, |row| row.currency.as_deref()))
        .bind(column(rows, |row| row.unasked))
        .execute(conn)
        .await
        .map(drop)
}
