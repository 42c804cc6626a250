//! `campaign_sweeps`: how far providers' records were asked about the messages of a campaign. SQL by hand: which campaigns have
//! messages to ask about is in their totals.

use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::{
    FromQueryResult,
    sqlx::{self, PgConnection, PgPool},
};
use uuid::Uuid;

use crate::domain::message_state::MessageState;
use chassis::db::decode;

/// States of which more is expected.
const OPEN: [MessageState; 3] = [MessageState::Unknown, MessageState::Accepted, MessageState::Sent];

/// A campaign whose messages are to be asked about, from the one behind a position on.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Sweep {
    pub id: Uuid,
    pub position: i32,
}

/// Those that are due, of days since `since`.
pub async fn due(pool: &PgPool, since: NaiveDate) -> sqlx::Result<Vec<Sweep>> {
    let rows = sqlx::query(
        "select c.id, coalesce(s.position, 0) as position
         from campaigns c left join campaign_sweeps s on s.campaign = c.number
         where c.date >= $1 and coalesce(s.due_at <= now(), true) and exists (
             select from (
                 select messages from campaign_totals t where t.campaign = c.number and t.status = any($2)
                 union all
                 select messages from campaign_deltas d where d.campaign = c.number and d.status = any($2)) both_of_them
             having sum(messages) > 0)
         order by coalesce(s.due_at, c.started_at)",
    )
    .bind(since)
    .bind(OPEN.map(MessageState::code).to_vec())
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(decode).collect()
}

/// Notes how far a campaign is. The others come before it again.
pub async fn at(conn: &mut PgConnection, campaign: i32, position: i32) -> sqlx::Result<()> {
    sqlx::query(
        "insert into campaign_sweeps (campaign, position) values ($1, $2)
         on conflict (campaign) do update set position = excluded.position, due_at = now()",
    )
    .bind(campaign)
    .bind(position)
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that a campaign is asked about again then, from where it is.
pub async fn put_off(conn: &mut PgConnection, campaign: i32, due_at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query("update campaign_sweeps set due_at = $2 where campaign = $1")
        .bind(campaign)
        .bind(due_at)
        .execute(conn)
        .await
        .map(drop)
}

/// Notes that a campaign was asked about to its end, and when it is due again.
pub async fn done(conn: &mut PgConnection, campaign: i32, due_at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "insert into campaign_sweeps (campaign, position, due_at) values ($1, 0, $2)
         on conflict (campaign) do update set position = 0, due_at = excluded.due_at",
    )
    .bind(campaign)
    .bind(due_at)
    .execute(conn)
    .await
    .map(drop)
}
