//! How fast the API answers while an import changes contacts.

use super::{Arena, timed};
use crate::numbers;
use anyhow::{Result, ensure};
use reqwest::Method;
use sea_orm::sqlx;
use serde_json::json;
use stack::platform::answer;
use std::path::Path;

/// Contacts that are asked for again and again.
const ASKED: i64 = 1_000;

/// `read_during_merge`: searches by name and by phone, single contacts, counts and previews in turn, one after another, from
/// the start to the end of an import of 100,000 changed rows.
pub async fn reads(arena: &Arena, dir: &Path) -> Result<()> {
    let changes = dir.join("changed.csv");
    let changed = numbers::changes(&arena.pool, &changes).await?;
    let some: Vec<(i64, String, Option<String>, String)> = sqlx::query_as(
        "select id, phone_e164, split_part(full_name, ' ', 1), lada from contacts
         order by hashint8extended(id, 3) limit $1",
    )
    .bind(ASKED)
    .fetch_all(&arena.pool)
    .await?;
    let import = arena.service()?.with_args(&["import", &changes.display().to_string()]);
    let mut importing = tokio::spawn(async move { import.run().await });
    let (mut times, mut by_kind) = (Vec::new(), vec![Vec::new(); 5]);
    for (number, (id, phone, name, lada)) in some.iter().cycle().enumerate() {
        let search =
            |key, value: &str| arena.client.request(Method::GET, "/api/v1/contacts").query(&[(key, value)]);
        let (took, _) = match number % 5 {
            0 => timed(answer(search("nombre", name.as_deref().unwrap_or("maria")))).await?,
            1 => timed(answer(search("telefono", phone))).await?,
            2 => timed(arena.client.get(&format!("/api/v1/contacts/{id}"))).await?,
            3 => timed(arena.client.get("/api/v1/contacts/stats")).await?,
            _ => timed(arena.client.post("/api/v1/segments/preview", &json!({ "ladas": [lada] }))).await?,
        };
        times.push(took);
        by_kind[number % 5].push(took);
        if importing.is_finished() {
            break;
        }
    }
    let (status, said) = (&mut importing).await??;
    ensure!(status.success(), "import: {status}\n{said}");
    let names = ["search_name", "search_phone", "contact", "stats", "preview"];
    let p95 = names
        .iter()
        .zip(by_kind)
        .map(|(name, times)| (String::from(*name), json!(crate::figure::percentile(times, 95.0).round())));
    let p95 = p95.collect::<serde_json::Map<_, _>>();
    let requests = times.len();
    arena
        .figure("read_during_merge", times)
        .with("requests", json!(requests))
        .with("changed", json!(changed))
        .with("p95_ms", p95.into())
        .print();
    Ok(())
}
