use super::{Arena, data};
use crate::figure::{Figure, median};
use anyhow::{Context, Result, ensure};
use chrono::Utc;
use sea_orm::sqlx;
use stack::services::REPORT;
use std::process::Stdio;
use std::time::Instant;

/// A campaign of so many rows: `export_400k`, and the most memory that a fresh worker had resident (VmHWM).
pub async fn one(arena: &mut Arena, rows: i64, peak: &str, wanted: &impl Fn(&str) -> bool) -> Result<()> {
    let day = Utc::now().date_naive();
    data::campaigns(&arena.pool, day, 1, rows).await?;
    let worker = &mut arena.platform.service_mut(&REPORT).workers[0];
    worker.restart().await?;
    let rounds = if rows > 1_000_000 { 1 } else { 3 };
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        floors.push(floor(arena).await?);
        let (run, _) = arena.run(day).await?;
        ensure!(run["filas"] == rows, "{run}");
        // From the claim of the file's job to its end: from PostgreSQL to S3, with its row.
        let took: f64 = sqlx::query_scalar(
            "select extract(epoch from finished_at - started_at)::float8 from jobs
             where kind = 'report.files' order by finished_at desc limit 1",
        )
        .fetch_one(&arena.pool)
        .await?;
        times.push(took);
    }
    if rows == 400_000 && wanted("export_400k") {
        Figure::new("report", "export_400k", median(times), "s")
            .floor_of_time(median(floors))
            .n(usize::try_from(rows)?)
            .print();
    }
    if wanted(peak) {
        let worker = &arena.platform.service(&REPORT).workers[0];
        let bytes = worker.daemon().peak_memory().context("VmHWM")?;
        Figure::new("report", peak, bytes as f64 / 1e6, "MB").n(usize::try_from(rows)?).print();
    }
    Ok(())
}

/// psql's `COPY … TO STDOUT` of the same rows, in seconds.
async fn floor(arena: &Arena) -> Result<f64> {
    const COPY: &str = "copy (select m.id, m.nombre, m.fecha, d.telefono, d.mensaje,
             to_char(d.fecha_envio, 'YYYY-MM-DD HH24:MI:SS'), d.estado, d.error
         from ta_sms_maestro m join ta_sms_detalle d on d.id_maestro = m.id order by d.id) to stdout (format csv)";
    let begin = Instant::now();
    let status = tokio::process::Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--command", COPY, arena.platform.place.database(&REPORT)])
        .stdout(Stdio::null())
        .status()
        .await
        .context("run psql")?;
    ensure!(status.success(), "psql: {status}");
    Ok(begin.elapsed().as_secs_f64())
}

/// `run_1000_campaigns`: from the answer to a request until all files are made, 400 rows each.
pub async fn many(arena: &Arena) -> Result<()> {
    let day = Utc::now().date_naive();
    data::campaigns(&arena.pool, day, 1_000, 400).await?;
    let (run, took) = arena.run(day).await?;
    ensure!(run["archivos"]["completados"] == 1_000 && run["filas"] == 400_000, "{run}");
    Figure::new("report", "run_1000_campaigns", took.as_secs_f64(), "s").n(1_000).print();
    Ok(())
}
