//! `earlier_attempts`: attempts that a person had repeated, with what each came to. Their rows of the ledger go on with the next
//! attempt, and what was paid stays paid. SQL by hand: UNNEST.

use sea_orm::sqlx::{self, PgConnection};

use super::{ledger::Row, totals};

/// Keeps what the last attempts at these messages came to, and their part of the totals. Call it where their rows forget it.
pub async fn keep(conn: &mut PgConnection, campaign: i32, rows: &[&Row]) -> sqlx::Result<()> {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.parts != 0 || row.cost_micros != 0).collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "insert into earlier_attempts
             (campaign, position, attempt, state_code, changed_at, status, code, variant, parts, cost_micros, currency, sender)
         select $1, t.* from unnest($2::int[], $3::smallint[], $4::text[], $5::timestamptz[], $6::smallint[], $7::text[],
                                    $8::smallint[], $9::smallint[], $10::bigint[], $11::text[], $12::text[]) t",
    )
    .bind(campaign)
    .bind(rows.iter().map(|row| row.position).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempt).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state_code.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.changed_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.state().code()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.code.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.variant).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.parts).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.cost_micros).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.currency.as_deref()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.sender.as_deref()).collect::<Vec<_>>())
    .execute(&mut *conn)
    .await?;
    totals::append_kept(conn, campaign, &rows).await
}

/// Those of a campaign's messages that had an earlier attempt which may have gone out.
pub async fn of(conn: &mut PgConnection, campaign: i32, positions: &[i32]) -> sqlx::Result<Vec<i32>> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(
        // Look-ups one by one: see `ledger::lock`.
        "select distinct wanted.position from unnest($2::int[]) as wanted (position) cross join lateral (
             select from earlier_attempts e where e.campaign = $1 and e.position = wanted.position limit 1) e",
    )
    .bind(campaign)
    .bind(positions)
    .fetch_all(conn)
    .await
}
