use super::{Arena, REQUESTS, timed};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Previews of segments with some `size` contacts, each of other LADAs than the one before: every second one asks only for what
/// the cube counts, the others for more.
pub async fn some(arena: &Arena, metric: &str, size: i64) -> Result<()> {
    let stats = arena.client.get("/api/v1/contacts/stats").await?;
    let ladas = stats.body["by_lada"].as_array().context("LADAs")?;
    let (mut times, mut exact, mut sizes) = (Vec::new(), 0, Vec::new());
    for number in 0..REQUESTS {
        let (filter, expected) = filter(ladas, size, number);
        let (took, preview) = timed(arena.client.post("/api/v1/segments/preview", &filter)).await?;
        let count = preview.body["count"].as_i64().context("a count")?;
        if number % 2 == 0 {
            ensure!(count == expected, "{filter} has {expected}: {preview}");
        }
        ensure!(preview.body["sample"].as_array().is_some_and(|sample| sample.len() == 10), "{preview}");
        exact += usize::from(preview.body["exact"] == true);
        sizes.push(count as f64);
        times.push(took);
    }
    let mean = sizes.iter().sum::<f64>() / sizes.len() as f64;
    arena.figure(metric, times).number("mean_count", mean).with("exact", json!(exact)).print();
    Ok(())
}

/// LADAs from one of them on, until they have so many active contacts, or all.
fn filter(ladas: &[Value], size: i64, number: usize) -> (Value, i64) {
    let (mut chosen, mut active) = (Vec::new(), 0);
    for place in 0..ladas.len().min(200) {
        let lada = &ladas[(number * 7 + place) % ladas.len()];
        if active >= size {
            break;
        }
        active += lada["active"].as_i64().unwrap_or_default();
        chosen.push(lada["lada"].clone());
    }
    let mut filter = json!({ "ladas": chosen });
    if number % 2 == 1 {
        filter["max_sends"] = json!(3);
        filter["not_contacted_days"] = json!(7);
    }
    (filter, active)
}
