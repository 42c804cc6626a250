//! Bsale into the sales database, against somebody who sends the same requests and throws the answers away.

use super::Arena;
use crate::figure::Figure;
use anyhow::{Result, ensure};
use serde_json::json;
use simulators::bsale::{Bsale, Shop, Size};
use stack::{Namespace, Stack};
use std::path::Path;
use std::time::Instant;

const TOKEN: &str = "a token of benches";
/// Days with documents.
const DAYS: u64 = 60;
/// Bsale's limit.
const A_SECOND: f64 = 8.0;
/// Streams, one after the other: who they are, then what they sold.
const STREAMS: [&str; 6] =
    ["tipos_documento", "tipos_producto", "productos", "variantes", "clientes", "documentos_venta"];

/// `bsale_mariadb`, `bsale_postgres`: all there is, without limits. `bsale_quota`: how much of eight requests a second
/// are used where they are limited.
pub async fn measure(
    stack: &Stack,
    dir: &Path,
    documents: usize,
    wanted: &impl Fn(&str) -> bool,
) -> Result<()> {
    for (figure, mariadb) in [("bsale_mariadb", true), ("bsale_postgres", false)] {
        if wanted(figure) {
            whole(stack, dir, documents, figure, mariadb).await?;
        }
    }
    if wanted("bsale_quota") {
        quota(stack, dir, documents).await?;
    }
    Ok(())
}

async fn arena(
    stack: &Stack,
    dir: &Path,
    label: &str,
    bsale: &Bsale,
    mariadb: bool,
    per_second: u32,
) -> Result<Arena> {
    let namespace = Namespace::create_on(&stack.servers(), label).await?;
    let sales =
        if mariadb { namespace.mysql_database().await? } else { namespace.database_for("sales").await? };
    let start = bsale.shop(|shop| shop.today) - chrono::Days::new(DAYS + 10);
    let settings = [
        ("SALES_DATABASE_URL", sales),
        ("BSALE_API_URL", bsale.url().to_owned()),
        ("BSALE_API_TOKEN", TOKEN.to_owned()),
        ("BSALE_REQUESTS_PER_SECOND", per_second.to_string()),
        ("BSALE_START_DATE", start.to_string()),
    ];
    Arena::start(namespace, dir, label, &settings).await
}

async fn whole(stack: &Stack, dir: &Path, documents: usize, figure: &str, mariadb: bool) -> Result<()> {
    let a_day = i64::try_from(documents)? / i64::try_from(DAYS)?;
    let size = Size { clients: 2_000, products: 500, days: DAYS, documents_a_day: a_day.max(1) };
    let bsale = Bsale::start(Shop::new(1, size), TOKEN)?;
    let arena = arena(stack, dir, figure, &bsale, mariadb, 100_000).await?;
    let (mut seconds, mut rows) = (0.0, 0);
    bsale.take_log();
    for stream in STREAMS {
        let ran = arena.run(stream, true).await?;
        seconds += ran.seconds;
        rows += ran.counters["leidos"].as_u64().unwrap_or_default();
    }
    let log = bsale.take_log();
    let http = stack::http();
    let begin = Instant::now();
    for line in &log {
        // What the log says begins with the base's own path.
        let url = bsale.url().replacen("/v1", line, 1);
        let answer = http.get(url).header("access_token", TOKEN).send().await?;
        answer.bytes().await?;
    }
    let floor = begin.elapsed().as_secs_f64();
    ensure!(rows as usize >= documents / 2, "{rows} rows");
    Figure::new("etl", figure, seconds, "s")
        .floor_of_time(floor)
        .n(usize::try_from(rows)?)
        .with("requests", json!(log.len()))
        .print();
    arena.end().await
}

async fn quota(stack: &Stack, dir: &Path, documents: usize) -> Result<()> {
    // 50 a page, active and inactive ones: some 400 requests, 50 s, for the size that is measured.
    let clients = i64::try_from(documents)?;
    let size = Size { clients, products: 0, days: 0, documents_a_day: 0 };
    let bsale = Bsale::start(Shop::new(1, size), TOKEN)?;
    bsale.limit(true);
    let arena = arena(stack, dir, "quota", &bsale, false, 8).await?;
    let before = bsale.requests();
    let ran = arena.run("clientes", true).await?;
    let requests = bsale.requests() - before;
    // The first one waits for nothing.
    let used = (requests as f64 - 1.0) / ran.seconds / A_SECOND;
    Figure::new("etl", "bsale_quota", used * 100.0, "%")
        .n(usize::try_from(requests)?)
        .with("refused", json!(bsale.refused()))
        .print();
    arena.end().await
}
