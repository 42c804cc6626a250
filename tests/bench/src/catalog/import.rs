use super::{Arena, SUPPLIER};
use crate::figure::{Figure, median};
use anyhow::{Result, ensure};
use calamine::{Xlsx, open_workbook};
use futures::TryStreamExt as _;
use sea_orm::sqlx::{self, PgPool};
use stack::platform::{Upload, compare, task_id};
use stack::wait::until;
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: usize = 100_000;
const ROUNDS: usize = 3;

/// `import_100k`: from 202 to `completed`; the floor is calamine streaming the same file's cells. `copy` says how long one
/// COPY of the finished rows takes into a table like the catalog's: what PostgreSQL alone needs.
pub async fn measure(arena: &Arena) -> Result<()> {
    let client = arena.platform.admin().await?;
    let pool = arena.platform.catalog().await?;
    // A small import first: connections, plans, caches.
    let (file, _) = arena.workbook("WARM", 2_000)?;
    let task = task_id(&client.upload(&Upload::new(&file, SUPPLIER)).await?)?;
    client.finished(&task, Duration::from_secs(60)).await?;

    let (mut seconds, mut floors, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let prefix = format!("I{round}");
        let (file, truth) = arena.workbook(&prefix, ROWS)?;
        // The words of the import before are written afterwards: that is neither this one's time nor the floor's.
        indexed(&pool).await?;
        floors.push(read_only(&file).await?);
        let task = task_id(&client.upload(&Upload::new(&file, SUPPLIER)).await?)?;
        let accepted = Instant::now();
        let status = client.finished(&task, Duration::from_secs(300)).await?;
        let took = accepted.elapsed().as_secs_f64();
        let verdict = compare(&pool, None, &status, &truth, &prefix).await?;
        ensure!(verdict.is_exact(), "the import is wrong: {:?}", verdict.lost.first());
        seconds.push(took);
        indexed(&pool).await?;
        copies.push(copied(&pool, &prefix).await?);
        eprintln!("import {seconds:.2?} s, floor {floors:.2?} s, copy {copies:.2?} s");
    }
    Figure::new("catalog", "import_100k", median(seconds), "s")
        .floor_of_time(median(floors))
        .n(ROWS)
        .number("copy", median(copies))
        .print();
    Ok(())
}

/// Waits until the words of all products are written.
pub async fn indexed(pool: &PgPool) -> Result<()> {
    let query = "SELECT NOT EXISTS (SELECT FROM imports WHERE NOT indexed)";
    until("the words of all products should be written", Duration::from_secs(60), || async {
        sqlx::query_scalar(query).fetch_one(pool).await.unwrap_or(false)
    })
    .await
}

/// Seconds that one COPY of an import's products takes into a table with the same columns, indexes and constraints.
async fn copied(pool: &PgPool, prefix: &str) -> Result<f64> {
    let mut conn = pool.acquire().await?;
    let rows = format!("copy (select * from products where id like '{prefix}-%') to stdout");
    let mut text = Vec::new();
    let mut out = conn.copy_out_raw(&rows).await?;
    while let Some(piece) = out.try_next().await? {
        text.extend_from_slice(&piece);
    }
    drop(out);
    sqlx::raw_sql("create table copied (like products including all)").execute(&mut *conn).await?;
    let began = Instant::now();
    let mut into = conn.copy_in_raw("copy copied from stdin").await?;
    into.send(text).await?;
    let written = into.finish().await?;
    let took = began.elapsed().as_secs_f64();
    ensure!(written as usize > ROWS / 2, "{written} rows were copied");
    sqlx::raw_sql("drop table copied").execute(&mut *conn).await?;
    Ok(took)
}

/// Seconds that calamine takes to stream all cells.
async fn read_only(file: &Path) -> Result<f64> {
    let file = file.to_path_buf();
    let read = move || -> Result<f64> {
        let started = Instant::now();
        let mut workbook: Xlsx<_> = open_workbook(&file)?;
        let mut cells = workbook.worksheet_cells_reader("Sheet1")?;
        let mut count = 0_usize;
        while cells.next_cell()?.is_some() {
            count += 1;
        }
        ensure!(count > ROWS, "{count} cells");
        Ok(started.elapsed().as_secs_f64())
    };
    tokio::task::spawn_blocking(read).await?
}
