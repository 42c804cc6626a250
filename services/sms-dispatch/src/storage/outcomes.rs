//! `campaign_outcomes`: how many messages of a campaign had ended, and how many of them without arriving, at some points on its
//! way. SQL by hand: keys of two columns.

use sea_orm::sqlx::{self, PgConnection};

use crate::domain::outcome_window::Ended;

/// So many ended messages lie between two points.
const STEP: i64 = 25;

/// The points of a campaign, in their order.
pub async fn of(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<Vec<Ended>> {
    let rows: Vec<(i64, i64)> =
        sqlx::query_as("select ended, failed from campaign_outcomes where campaign = $1 order by ended")
            .bind(campaign)
            .fetch_all(conn)
            .await?;
    Ok(rows.into_iter().map(|(ended, failed)| Ended { ended, failed }).collect())
}

/// Whether a point is far enough from the last one, or before it.
pub fn is_news(known: &[Ended], now: Ended) -> bool {
    known.last().is_none_or(|last| now.ended < last.ended || now.ended >= last.ended + STEP)
}

/// Adds a point, and forgets those before `base`, or all where sums have fallen.
pub async fn add(
    conn: &mut PgConnection,
    campaign: i32,
    now: Ended,
    base: Option<Ended>,
) -> sqlx::Result<()> {
    sqlx::query(
        "with gone as (
             delete from campaign_outcomes where campaign = $1 and (ended < $4 or ended > $2 or $4 is null))
         insert into campaign_outcomes (campaign, ended, failed) values ($1, $2, $3) on conflict do nothing",
    )
    .bind(campaign)
    .bind(now.ended)
    .bind(now.failed)
    .bind(base.map(|base| base.ended))
    .execute(conn)
    .await
    .map(drop)
}

/// Forgets a campaign's points.
pub async fn forget(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<()> {
    sqlx::query("delete from campaign_outcomes where campaign = $1")
        .bind(campaign)
        .execute(conn)
        .await
        .map(drop)
}

/// The first messages of a campaign went well: the rest follows.
pub async fn ramped(conn: &mut PgConnection, campaign: i32) -> sqlx::Result<()> {
    sqlx::query("update campaigns set ramped_at = now() where number = $1 and ramped_at is null")
        .bind(campaign)
        .execute(conn)
        .await
        .map(drop)
}
