//! The dashboard as a caller of etl's API gets it: kept, computed, and computed while Redis is down.

use super::Arena;
use crate::figure::{Figure, percentile};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use stack::Stack;
use std::time::Instant;

const HITS: usize = 1_000;
const MISSES: usize = 200;

/// `dashboard_hit`, `dashboard_miss`, `dashboard_redis_down`: the slowest of a hundred.
pub async fn measure(
    stack: &Stack,
    arena: &Arena,
    accounts: usize,
    wanted: &impl Fn(&str) -> bool,
) -> Result<()> {
    let print = |figure: &str, times: Vec<f64>| {
        let n = times.len();
        Figure::new("etl", figure, percentile(times, 99.0), "ms")
            .n(n)
            .with("percentile", json!(99))
            .with("accounts", json!(accounts))
            .print();
    };
    if wanted("dashboard_hit") {
        let path = path(0);
        ask(arena, &path).await?;
        let mut times = Vec::new();
        for _ in 0..HITS {
            let (took, cache) = ask(arena, &path).await?;
            ensure!(cache == "HIT", "{cache}");
            times.push(took);
        }
        print("dashboard_hit", times);
    }
    if wanted("dashboard_miss") {
        let mut times = Vec::new();
        for number in 1..=MISSES {
            let (took, cache) = ask(arena, &path(number)).await?;
            ensure!(cache == "MISS", "{cache}");
            times.push(took);
        }
        print("dashboard_miss", times);
    }
    if wanted("dashboard_redis_down") {
        stack.redis.kill().await?;
        let mut times = Vec::new();
        for number in MISSES + 1..=2 * MISSES {
            times.push(ask(arena, &path(number)).await?.0);
        }
        stack.redis.start().await?;
        print("dashboard_redis_down", times);
    }
    Ok(())
}

/// Questions that differ: days, carteras and services.
fn path(number: usize) -> String {
    let day = chrono::NaiveDate::from_ymd_opt(2025, 5, 15).unwrap_or_default()
        + chrono::Days::new((number % 60) as u64);
    let cartera = ["TODAS", "TEMPRANA", "ALTAS_NUEVAS", "OTRAS"][number / 60 % 4];
    let servicio = ["TODOS", "MOVIL", "FIJA"][number / 240 % 3];
    format!("/api/v1/dashboard?fecha_corte={day}&cartera={cartera}&servicio={servicio}")
}

/// How many milliseconds an answer takes, whole, and whether it was there.
async fn ask(arena: &Arena, path: &str) -> Result<(f64, String)> {
    let request = arena.client.request(reqwest::Method::GET, path);
    let begin = Instant::now();
    let answer = request.send().await?.error_for_status()?;
    let cache = answer.headers().get("x-cache").context("X-Cache")?.to_str()?.to_owned();
    ensure!(!answer.bytes().await?.is_empty(), "an answer");
    Ok((begin.elapsed().as_secs_f64() * 1_000.0, cache))
}
