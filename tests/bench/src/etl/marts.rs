//! The marts over raw tables of the users' size, whole and after one row more in a hundred.

use super::{Arena, dashboards};
use crate::figure::Figure;
use anyhow::Result;
use chrono::Utc;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, postgres::PgPoolOptions};
use serde_json::json;
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::Instant;

/// Managements for each account, as the users have them: 3,200,000 of 165,000.
const MANAGEMENTS: f64 = 3_200_000.0 / 165_000.0;
const RAW: &str = include_str!("raw.sql");
const MORE: &str = include_str!("more.sql");

/// `marts_full`, `marts_1_percent`, and the dashboards over them.
pub async fn measure(
    stack: &Stack,
    dir: &Path,
    accounts: usize,
    wanted: &impl Fn(&str) -> bool,
) -> Result<()> {
    let namespace = Namespace::create_on(&stack.servers(), "marts").await?;
    let arena = Arena::start(namespace, dir, "marts", &[("ETL_BSALE", "false".to_owned())]).await?;
    let managements = (accounts as f64 * MANAGEMENTS) as usize;
    // As the worker's connections have them: with PostgreSQL's defaults the plans would be others.
    let settings = [("random_page_cost", "1.1"), ("jit", "off")];
    let options = arena.pool.connect_options().as_ref().clone().options(settings);
    let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await?;
    let begin = Instant::now();
    write(&pool, RAW, accounts, managements).await?;
    eprintln!(
        "{managements} managements of {accounts} accounts written in {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    let full = refresh(&pool).await?;
    if wanted("marts_full") {
        Figure::new("etl", "marts_full", full, "s").n(managements).with("accounts", json!(accounts)).print();
    }
    if wanted("marts_1_percent") {
        write(&pool, MORE, accounts, managements).await?;
        let more = refresh(&pool).await?;
        Figure::new("etl", "marts_1_percent", more, "s")
            .floor_of_time(full)
            .n(managements / 100)
            .with("rows", json!("managements and payments of the last day"))
            .print();
    }
    pool.close().await;
    dashboards::measure(stack, &arena, accounts, wanted).await?;
    arena.end().await
}

async fn write(pool: &PgPool, sql: &str, accounts: usize, managements: usize) -> Result<()> {
    let sql = sql
        .replace("{accounts}", &accounts.to_string())
        .replace("{clients}", &(accounts * 6 / 10).to_string())
        .replace("{managements}", &managements.to_string());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
    Ok(())
}

/// In seconds.
async fn refresh(pool: &PgPool) -> Result<f64> {
    let begin = Instant::now();
    etl::collections::refresh(pool, Utc::now()).await?;
    Ok(begin.elapsed().as_secs_f64())
}
