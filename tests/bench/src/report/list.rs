use super::Arena;
use crate::figure::{Figure, percentile};
use anyhow::{Result, ensure};
use chrono::{Days, Utc};
use sea_orm::sqlx;
use std::time::Instant;

const DAYS: i64 = 400;
const CAMPAIGNS: i64 = 2_500;
const PAGES: usize = 300;

/// `campania_list_page`: pages of one day and of all, early and late, through the gateway, among a million campaigns.
pub async fn measure(arena: &Arena) -> Result<()> {
    sqlx::query(
        "insert into ta_sms_maestro (fecha, nombre, estado, descripcion, origen, origen_id)
         select current_date - d::integer, 'Campaña ' || n, 'COMPLETADA', 'Cobranza', 'carga', d || ' ' || n
         from generate_series(0, $1 - 1) d cross join generate_series(1, $2) n",
    )
    .bind(DAYS)
    .bind(CAMPAIGNS)
    .execute(&arena.pool)
    .await?;
    sqlx::query("vacuum analyze ta_sms_maestro").execute(&arena.pool).await?;
    let today = Utc::now().date_naive();
    let total = DAYS * CAMPAIGNS;
    let mut times = Vec::new();
    for number in 0..PAGES {
        // Strides that have no common factor with what they walk over.
        let day = today.checked_sub_days(Days::new(number as u64 * 7 % 400)).unwrap_or(today);
        let path = if number % 2 == 0 {
            format!("/campania/list?fecha={}&page={}&page_size=100", day.format("%Y/%m/%d"), 1 + number % 25)
        } else {
            format!("/campania/list?page={}&page_size=100", 1 + number * 997 % (total as usize / 100))
        };
        let begin = Instant::now();
        let page = arena.client.get(&path).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        let full = page.body["items"].as_array().is_some_and(|items| items.len() == 100);
        ensure!(page.status == 200 && full, "{path}: {page}");
    }
    Figure::new("report", "campania_list_page", percentile(times, 95.0), "ms")
        .n(usize::try_from(total)?)
        .print();
    Ok(())
}
