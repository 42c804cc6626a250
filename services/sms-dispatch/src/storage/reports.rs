//! `provider_reports` and `inbound_messages`: what providers told us, kept before they are answered. SQL by hand: batches that
//! several workers take from at once.

use chrono::{DateTime, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, PgConnection, PgPool},
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

/// Keeps a report.
pub async fn keep(pool: &PgPool, provider: &str, url: &str, body: &str) -> sqlx::Result<()> {
    sqlx::query("insert into provider_reports (provider, url, body) values ($1, $2, $3)")
        .bind(provider)
        .bind(url)
        .bind(body)
        .execute(pool)
        .await
        .map(drop)
}

/// Takes the oldest reports away, in the transaction that applies them.
pub async fn take(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Kept>> {
    let rows = sqlx::query(
        "delete from provider_reports where id = any (array(
             select id from provider_reports order by id limit $1 for update skip locked))
         returning id, provider, url, body",
    )
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let mut reports: Vec<Kept> = rows.into_iter().map(decode).collect::<sqlx::Result<_>>()?;
    reports.sort_by_key(|report| report.id);
    Ok(reports)
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
    .bind(sender)
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

/// Notes what a message to us meant. A reply belongs to the last campaign that its phone had a message of.
pub async fn handled(conn: &mut PgConnection, inbound: &Inbound, meaning: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update inbound_messages i set handled_at = now(), meaning = $3, campaign = (
             select m.campaign from messages m
             where m.phone_e164 = i.phone_e164 and m.date > current_date - 90 and m.sent_at is not null
             order by m.sent_at desc limit 1)
         where provider = $1 and provider_id = $2",
    )
    .bind(&inbound.provider)
    .bind(&inbound.provider_id)
    .bind(meaning)
    .execute(conn)
    .await
    .map(drop)
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
