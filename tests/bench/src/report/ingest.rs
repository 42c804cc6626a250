use super::Arena;
use crate::figure::Figure;
use anyhow::{Result, ensure};
use chrono::Utc;
use sea_orm::sqlx;
use stack::platform::{Campaign, Publisher, Settled};
use stack::services::REPORT;
use std::time::{Duration, Instant};

const CAMPAIGNS: usize = 8;
const ROWS: usize = 50_000;

/// `ingest`: rows a second into `ta_sms_detalle`, of events of 500 rows that wait in the queue.
pub async fn measure(arena: &mut Arena) -> Result<()> {
    let worker = &mut arena.platform.service_mut(&REPORT).workers[0];
    worker.kill().await?;
    let publisher = Publisher::new(&arena.platform.place);
    let day = Utc::now().date_naive();
    for number in 0..CAMPAIGNS {
        let campaign = Campaign::new(&format!("Campaña {number}"), day);
        let text = "Hola, su factura vence mañana; responda PAGAR o llame al 018000 123 456";
        let rows: Vec<_> = (0..ROWS).map(|row| Settled::sent(row, text)).collect();
        publisher.started(&campaign, ROWS).await?;
        publisher.settled(&campaign, &rows).await?;
    }
    let worker = &mut arena.platform.service_mut(&REPORT).workers[0];
    worker.restart().await?;
    let all = i64::try_from(CAMPAIGNS * ROWS)?;
    let mut first: Option<(Instant, i64)> = None;
    let end = Instant::now() + Duration::from_secs(300);
    loop {
        // What the campaigns count is what is committed, and costs nothing to ask.
        let query = "select coalesce(sum(filas), 0)::bigint from ta_sms_maestro";
        let rows: i64 = sqlx::query_scalar(query).fetch_one(&arena.pool).await?;
        let now = Instant::now();
        if rows > 0 {
            let (since, already) = *first.get_or_insert((now, rows));
            if rows == all {
                let rate = (rows - already) as f64 / (now - since).as_secs_f64();
                Figure::new("report", "ingest", rate, "rows/s").n(CAMPAIGNS * ROWS).print();
                return Ok(());
            }
        }
        ensure!(now < end, "{rows} of {all} rows arrived");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
