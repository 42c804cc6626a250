//! What is kept of runs that ended long ago.

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};
use etl::storage::runs;
use sea_orm::sqlx::{self, PgPool};
use serde_json::{Value, json};
use simulators::bsale::{Shop, Size};

use crate::world::{Kind, World};

/// A run that ended so many days ago.
async fn ran(pool: &PgPool, lane: &str, state: &str, days: i64, checkpoint: Value) -> Result<()> {
    let stream = lane.trim_end_matches("#backfill");
    let at = Utc::now() - TimeDelta::days(days);
    sqlx::query(
        "insert into jobs (id, kind, params, max_attempts, state, checkpoint, created_at, started_at, finished_at,
                           error, cancel_requested_at)
         values (gen_random_uuid(), 'etl.runs', $1, 10, $2, $3, $4, $4, $4 + interval '1 hour',
                 case $2 when 'failed' then 'an error' end, case $2 when 'cancelled' then $4 end)",
    )
    .bind(json!({ "lane": lane, "stream": stream, "mode": "daily" }))
    .bind(state)
    .bind(checkpoint)
    .bind(at)
    .execute(pool)
    .await?;
    Ok(())
}

#[tokio::test]
async fn retention_keeps_what_says_that_a_stream_is_half_read() -> Result<()> {
    let world = World::new("etlretention", Kind::Postgres, Shop::new(1, Size::default())).await?;
    let pool = &world.resources.database.pool;
    let purged = async || Ok::<_, anyhow::Error>(runs::purge(pool, Utc::now() - TimeDelta::days(90)).await?);
    ran(pool, "bigquery.asignaciones", "completed", 200, json!({})).await?;
    ran(pool, "bigquery.asignaciones", "failed", 199, json!({})).await?;
    ensure!(purged().await? == 1, "but the last one");
    ensure!(purged().await? == 0, "the last one stays, however old it is");

    let days = |from: &str, to: &str| json!({ "from": from, "to": to, "snapshot": "2026-01-01T00:00:00Z" });
    let broken = days("2026-01-05T05:00:00Z", "2026-01-09T05:00:00Z");
    ran(pool, "bigquery.pagos#backfill", "failed", 190, broken).await?;
    ran(pool, "bigquery.pagos#backfill", "cancelled", 180, json!({})).await?;
    // These read less than all of its days.
    ran(pool, "bigquery.pagos", "completed", 170, days("2026-01-06T05:00:00Z", "2026-01-10T05:00:00Z"))
        .await?;
    ran(pool, "bigquery.pagos", "completed", 10, json!({})).await?;
    ensure!(purged().await? == 1, "what reads less makes nothing good");
    ran(pool, "bigquery.pagos", "completed", 160, days("2026-01-01T05:00:00Z", "2026-02-01T05:00:00Z"))
        .await?;
    ensure!(purged().await? == 2, "the broken one, and what has made it good");
    ensure!(purged().await? == 0);
    Ok(())
}
