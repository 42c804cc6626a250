//! `ledger_1m`: how fast a campaign's ledger is written.

use super::Arena;
use crate::figure::Figure;
use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe};
use std::time::Instant;

/// Rows a second of a ledger that was just written; floor, where it is wanted: a plain insert of the same rows into a table like it.
pub async fn print(arena: &Arena, campaign: i32, rows: i64, with_floor: bool) -> Result<()> {
    let took: f64 = sqlx::query_scalar(
        "select extract(epoch from j.finished_at - j.started_at)::float8
         from campaigns c join jobs j on j.id = c.preparation where c.number = $1",
    )
    .bind(campaign)
    .fetch_one(&arena.pool)
    .await?;
    let partition: String = sqlx::query_scalar(
        "select 'messages_' || to_char(date, 'YYYYMMDD') from campaigns where number = $1",
    )
    .bind(campaign)
    .fetch_one(&arena.pool)
    .await?;
    let bytes: i64 = sqlx::query_scalar("select pg_total_relation_size($1::regclass)")
        .bind(&partition)
        .fetch_one(&arena.pool)
        .await?;
    let all = rows as f64;
    let mut figure = Figure::new("dispatch", "ledger_1m", all / took, "rows/s");
    if with_floor {
        figure = figure.floor_of_rate(all / floor(arena, &partition, campaign, rows).await?);
    }
    figure
        .n(usize::try_from(rows)?)
        .number("seconds", took)
        .number("bytes_a_row", bytes as f64 / all)
        .print();
    Ok(())
}

/// Seconds of one INSERT … SELECT of the same rows, into a table with the same indexes and the same room in its pages.
async fn floor(arena: &Arena, partition: &str, campaign: i32, rows: i64) -> Result<f64> {
    let table = format!(
        "create table floor_messages (like {partition} including all) with (fillfactor = 60, autovacuum_enabled = off)"
    );
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&arena.pool).await?;
    let mut transaction = arena.pool.begin().await?;
    sqlx::raw_sql("set local statement_timeout = 0").execute(&mut *transaction).await?;
    let insert =
        format!("insert into floor_messages select * from {partition} where campaign = $1 order by position");
    let began = Instant::now();
    let done = sqlx::query(AssertSqlSafe(insert)).bind(campaign).execute(&mut *transaction).await?;
    transaction.commit().await?;
    let took = began.elapsed().as_secs_f64();
    ensure!(done.rows_affected() == rows.unsigned_abs(), "{} rows, not {rows}", done.rows_affected());
    sqlx::raw_sql("drop table floor_messages")
        .execute(&arena.pool)
        .await
        .context("drop the floor's table")?;
    Ok(took)
}
