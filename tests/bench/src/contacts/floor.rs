//! The floors: psql's `\copy` of the rows as they are in the end into an identical table, and the same statements for the
//! indexes, one after another.

use anyhow::{Context, Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

/// Seconds.
pub struct Floor {
    pub load: f64,
    pub index: Option<f64>,
}

/// Measures both, on the same server, and cleans up.
pub async fn measure(pool: &PgPool, url: &str, dir: &Path, wanted: &impl Fn(&str) -> bool) -> Result<Floor> {
    if !wanted("load") && !wanted("index") {
        return Ok(Floor { load: f64::NAN, index: None });
    }
    let file = dir.join("contacts.txt").display().to_string();
    psql(url, &format!("\\copy (select * from contacts order by id) to '{file}'")).await?;
    let table = "create table floor_contacts (like contacts including defaults including constraints including identity)";
    sqlx::query(table).execute(pool).await?;
    let began = Instant::now();
    psql(url, &format!("\\copy floor_contacts from '{file}'")).await?;
    let load = began.elapsed().as_secs_f64();
    std::fs::remove_file(&file)?;
    let index = if wanted("index") { Some(index(pool, url).await?) } else { None };
    sqlx::query("drop table floor_contacts").execute(pool).await?;
    Ok(Floor { load, index })
}

/// With as much memory as the import gives itself, and with the server's own parallelism.
async fn index(pool: &PgPool, url: &str) -> Result<f64> {
    let definitions: Vec<String> = sqlx::query_scalar(
        "select indexdef from pg_indexes where schemaname = current_schema() and tablename = 'contacts'",
    )
    .fetch_all(pool)
    .await?;
    ensure!(definitions.len() >= 9, "contacts has only {} indexes", definitions.len());
    let schema: String = sqlx::query_scalar("select current_schema()").fetch_one(pool).await?;
    let mut statements = vec!["set maintenance_work_mem = '512MB'".to_owned()];
    for definition in &definitions {
        let there = format!(" ON {schema}.contacts ");
        ensure!(definition.contains(&there), "{definition}");
        let moved = definition.replace(&there, &format!(" ON {schema}.floor_contacts "));
        statements.push(moved.replacen(" INDEX contacts", " INDEX floor_contacts", 1));
    }
    let began = Instant::now();
    psql(url, &statements.join("; ")).await?;
    let took = began.elapsed().as_secs_f64();
    sqlx::query(AssertSqlSafe("analyze contacts".to_owned())).execute(pool).await?;
    Ok(took)
}

async fn psql(url: &str, command: &str) -> Result<()> {
    let status = tokio::process::Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", command, url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .context("run psql")?;
    ensure!(status.success(), "psql: {status}: {command}");
    Ok(())
}
