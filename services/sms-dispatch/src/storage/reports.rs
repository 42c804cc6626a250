//! `provider_reports` and `inbound_messages`: what providers told us, kept before they are answered. SQL by hand: batches that
//! several workers take from at once.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, AssertSqlSafe, PgConnection, PgExecutor, PgPool},
};
use uuid::Uuid;

use chassis::db::decode;

/// A report on a message, as it was signed.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Kept {
    pub id: i64,
    pub provider: String,
    pub url: String,
    pub body: String,
}

/// A report as it came.
#[derive(Debug)]
pub struct Report {
    pub provider: &'static str,
    /// What was signed beside the body; empty where that is nothing.
    pub url: String,
    pub body: String,
}

/// Keeps reports, in one commit.
pub async fn keep(connection: impl PgExecutor<'_>, reports: &[Report]) -> sqlx::Result<()> {
    let column = |of: fn(&Report) -> &str| -> Vec<&str> { reports.iter().map(of).collect() };
    sqlx::query(
        "insert into provider_reports (provider, url, body) select * from unnest($1::text[], $2::text[], $3::text[])",
    )
    .bind(column(|report| report.provider))
    .bind(column(|report| &report.url))
    .bind(column(|report| &report.body))
    .execute(connection)
    .await
    .map(drop)
}

/// Takes the oldest reports away, in the transaction that applies them; those that were set aside stay.
pub async fn take(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Kept>> {
    let rows = sqlx::query(
        "delete from provider_reports where id = any (array(
             select id from provider_reports where failed_at is null order by id limit $1 for update skip locked))
         returning id, provider, url, body",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let mut reports: Vec<Kept> = rows.into_iter().map(decode).collect::<sqlx::Result<_>>()?;
    reports.sort_by_key(|report| report.id);
    Ok(reports)
}

/// The ids of the oldest reports.
pub async fn oldest(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar("select id from provider_reports where failed_at is null order by id limit $1")
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// Takes one report away, in the transaction that applies it; none where somebody else has it.
pub async fn take_one(conn: &mut PgConnection, id: i64) -> sqlx::Result<Option<Kept>> {
    let row = sqlx::query(
        "delete from provider_reports where id = any (array(
             select id from provider_reports where id = $1 and failed_at is null for update skip locked))
         returning id, provider, url, body",
    )
    .bind(id)
    .fetch_optional(conn)
    .await?;
    row.map(decode).transpose()
}

/// Sets a report aside that can't be applied.
pub async fn set_aside(pool: &PgPool, id: i64, error: &str) -> sqlx::Result<()> {
    sqlx::query("update provider_reports set failed_at = now(), error = $2 where id = $1")
        .bind(id)
        .bind(error.replace('\0', "\u{fffd}"))
        .execute(pool)
        .await
        .map(drop)
}

/// A message to us.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Inbound {
    pub provider: String,
    pub provider_id: String,
    pub phone_e164: String,
    pub sender: String,
    pub text: String,
    pub received_at: DateTime<Utc>,
}

/// Keeps a message to us, once by the provider's id.
pub async fn keep_inbound(
    pool: &PgPool,
    provider: &str,
    provider_id: Uuid,
    phone: &str,
    sender: &str,
    text: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into inbound_messages (provider, provider_id, phone_e164, sender, text) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
    )
    .bind(provider)
    .bind(provider_id.simple().to_string())
    .bind(phone)
    // Text of PostgreSQL's holds no NUL, and a provider would deliver it again and again.
    .bind(sender.replace('\0', "\u{fffd}"))
    .bind(text.replace('\0', "\u{fffd}"))
    .execute(pool)
    .await
    .map(drop)
}

/// The oldest messages to us that nobody has handled, locked.
pub async fn open_inbound(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Inbound>> {
    let rows = sqlx::query(
        "select provider, provider_id, phone_e164, sender, text, received_at from inbound_messages
         where handled_at is null order by received_at limit $1 for update skip locked",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// The last campaigns that phones had a message of, among those of days after `since`.
pub async fn last_campaigns(
    conn: &mut PgConnection,
    phones: &[&str],
    since: NaiveDate,
) -> sqlx::Result<Vec<(String, i32)>> {
    // The day stands in the statement: so the planner leaves out the days before it, and locks none of them.
    let query = format!(
        "select distinct on (phone_e164) phone_e164, campaign from messages
         where phone_e164 = any($1) and date > '{since}' and sent_at is not null order by phone_e164, sent_at desc"
    );
    sqlx::query_as(AssertSqlSafe(query)).persistent(false).bind(phones).fetch_all(conn).await
}

/// Notes what a message to us meant, and which campaign it answers. Gives whether it was still open.
pub async fn handled(
    conn: &mut PgConnection,
    inbound: &Inbound,
    meaning: &str,
    campaign: Option<i32>,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "update inbound_messages set handled_at = now(), meaning = $3, campaign = $4
         where provider = $1 and provider_id = $2 and handled_at is null",
    )
    .bind(&inbound.provider)
    .bind(&inbound.provider_id)
    .bind(meaning)
    .bind(campaign)
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// The replies to a campaign, newest first, before one of them.
pub async fn replies(
    pool: &PgPool,
    campaign: i32,
    before: Option<DateTime<Utc>>,
    limit: i64,
) -> sqlx::Result<Vec<Inbound>> {
    let rows = sqlx::query(
        "select provider, provider_id, phone_e164, sender, text, received_at from inbound_messages
         where campaign = $1 and meaning = 'reply' and ($2::timestamptz is null or received_at < $2)
         order by received_at desc limit $3",
    )
    .bind(campaign)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(decode).collect()
}
