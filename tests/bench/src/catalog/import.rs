use super::{Arena, SUPPLIER};
use crate::figure::{Figure, median};
use anyhow::{Result, ensure};
use calamine::{Xlsx, open_workbook};
use sea_orm::sqlx::{self, PgPool};
use stack::platform::{Upload, compare, task_id};
use stack::wait::until;
use std::path::Path;
use std::time::{Duration, Instant};

const ROWS: usize = 100_000;
const ROUNDS: usize = 3;

/// `import_100k`: from 202 to `completed`; the floor is calamine streaming the same file's cells.
pub async fn measure(arena: &Arena) -> Result<()> {
    let client = arena.platform.admin().await?;
    let pool = arena.platform.catalog().await?;
    // A small import first: connections, plans, caches.
    let (file, _) = arena.workbook("WARM", 2_000)?;
    let task = task_id(&client.upload(&Upload::new(&file, SUPPLIER)).await?)?;
    client.finished(&task, Duration::from_secs(60)).await?;

    let (mut seconds, mut floors) = (Vec::new(), Vec::new());
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
        eprintln!("import {took:.2} s, floor {:.2} s", floors.last().copied().unwrap_or_default());
        seconds.push(took);
    }
    Figure::new("catalog", "import_100k", median(seconds), "s").floor_of_time(median(floors)).n(ROWS).print();
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
