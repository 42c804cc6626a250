//! More contacts than a file of them and its import would leave room for on a small disk.

use super::Arena;
use anyhow::{Result, ensure};
use sea_orm::sqlx::{self, AssertSqlSafe};
use sms_dispatch::storage::{index_builds, indexes, views};
use std::time::Instant;

/// Above so many the contacts are inserted and not imported, and the ledger has no floor, which is a second one.
pub const IMPORTED: u64 = 4_000_000;
/// Contacts of a place, at most.
const EACH: i64 = 4_000_000;
/// LADA, state and city.
const PLACES: [(&str, &str, &str); 10] = [
    ("222", "PUE", "PUEBLA"),
    ("444", "SLP", "SAN LUIS POTOSI"),
    ("614", "CHIH", "CHIHUAHUA"),
    ("662", "SON", "HERMOSILLO"),
    ("664", "BC", "TIJUANA"),
    ("667", "SIN", "CULIACAN"),
    ("744", "GRO", "ACAPULCO"),
    ("833", "TAMPS", "TAMPICO"),
    ("998", "QROO", "CANCUN"),
    ("999", "YUC", "MERIDA"),
];
const NAMES: [&str; 5] = [
    "MARIA GUADALUPE HERNANDEZ LOPEZ",
    "JOSE LUIS GARCIA",
    "JUAN CARLOS MARTINEZ RAMIREZ",
    "ROSA ISELA CRUZ",
    "FRANCISCO JAVIER TORRES MEDINA",
];
/// What a ledger is written by; the other indexes of contacts serve searches.
const ASKED: [&str; 2] = ["contacts_id", indexes::PHONE.name];
/// The phones of a place jump over all of its numbers, as those of a file do.
const INSERT: &str = "
insert into contacts (phone_e164, full_name, city, lada, state_code, is_valid, is_mobile, status, consent, import, source_id)
select '+52' || $1 || lpad((n * 7654321 % 10000000)::text, 7, '0'), ($4::text[])[(1 + n % 5)::integer], $3, $1, $2,
       true, true, 'ACTIVE', 'contrato', $5, n
from generate_series($6::bigint, $7::bigint) n";

/// Inserts `rows` active contacts with consent and a name, without addresses. What only searches ask is there and empty.
pub async fn insert(arena: &Arena, rows: u64) -> Result<()> {
    let rows = i64::try_from(rows)?;
    ensure!(rows <= EACH * PLACES.len() as i64, "ROWS is {rows}, expected 40,000,000 at most");
    let began = Instant::now();
    let import: i32 = sqlx::query_scalar(
        "insert into imports (id, source, kind, mode, imported_by, source_rows, created, updated, unchanged, merged, rejected)
         values (gen_random_uuid(), 'bench', 'csv', 'merge', 'bench', $1, $1, 0, 0, 0, 0) returning number",
    )
    .bind(rows)
    .fetch_one(&arena.pool)
    .await?;
    let mut conn = arena.pool.acquire().await?;
    conn.close_on_drop();
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0").execute(&mut *conn).await?;
    index_builds::drop_all(&mut conn, indexes::ALL).await?;
    for index in indexes::ALL.iter().filter(|index| !ASKED.contains(&index.name)) {
        // A campaign waits while one of them is away.
        let empty = format!("create index {} on contacts (id) where false", index.name);
        sqlx::query(AssertSqlSafe(empty)).execute(&mut *conn).await?;
    }
    for (first, (lada, state, city)) in (1..=rows).step_by(usize::try_from(EACH)?).zip(PLACES) {
        sqlx::query(INSERT)
            .bind(lada)
            .bind(state)
            .bind(city)
            .bind(NAMES.to_vec())
            .bind(import)
            .bind(first)
            .bind(rows.min(first + EACH - 1))
            .execute(&mut *conn)
            .await?;
    }
    index_builds::build(&arena.pool, indexes::ALL, ASKED.len()).await?;
    index_builds::vacuum(&arena.pool).await?;
    // The worker does so soon where nobody has, beside whatever is measured then.
    views::refresh(&arena.pool).await?;
    eprintln!("{rows} contacts are inserted in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
