//! How fast one worker sends: `insert_10k`, `messages`, `settled`.

use super::{Arena, silent, small};
use crate::figure::{Figure, median};
use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use sea_orm::sqlx;
use serde_json::json;
use simulators::messages::{Faults, Summary};
use stack::platform::sending::{self, SENDER};
use std::time::{Duration, Instant};

/// Messages of `insert_10k`.
const TEN_THOUSAND: i64 = 10_000;
const ROUNDS: usize = 5;
/// Requests that a worker has in flight by default: four slices with 64 each.
const IN_FLIGHT: usize = 256;

pub async fn measure(arena: &Arena, wanted: &impl Fn(&str) -> bool) -> Result<()> {
    let many = small()?;
    sending::people(&arena.pool, "Diez mil", 1_000_000, TEN_THOUSAND).await?;
    for (number, city) in (0..).zip(["Enviados", "Entregados"]) {
        sending::people(&arena.pool, city, 2_000_000 + number * many, many).await?;
    }
    if wanted("insert_10k") {
        insert(arena).await?;
    }
    if wanted("messages") {
        messages(arena, many).await?;
    }
    if wanted("settled") {
        settled(arena, many).await?;
    }
    Ok(())
}

/// `insert_10k`: from the request that starts a campaign until its 10,000 messages are committed and may be sent.
async fn insert(arena: &Arena) -> Result<()> {
    let plan = sending::plan(&json!({ "cities": ["Diez mil"] }));
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let campaign = json!({ "name": format!("Diez mil {round}"), "kind": "cobranza", "plan": plan });
        let draft = arena.client.post(sending::CAMPAIGNS, &campaign).await?;
        let id = draft.body["id"].as_str().with_context(|| format!("{draft}"))?.to_owned();
        let began = Instant::now();
        sending::act(&arena.client, &id, "start").await?;
        // The row itself: a progress costs more to ask for than to look there.
        let whole = "select state <> 'preparing' and recipients = $2 from campaigns where id = $1::uuid";
        loop {
            let whole = sqlx::query_scalar::<_, bool>(whole)
                .bind(&id)
                .bind(TEN_THOUSAND)
                .fetch_one(&arena.pool)
                .await?;
            if whole {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "10,000 messages are not written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        sending::act(&arena.client, &id, "cancel").await?;
        // Its end is no part of the next one.
        let ended = "select finished_at is not null from campaigns where id = $1::uuid";
        stack::wait::until("a cancelled campaign should end", Duration::from_secs(60), async || {
            sqlx::query_scalar(ended).bind(&id).fetch_one(&arena.pool).await.unwrap_or(false)
        })
        .await?;
    }
    Figure::new("dispatch", "insert_10k", median(times.clone()), "ms")
        .n(usize::try_from(TEN_THOUSAND)?)
        .number("worst_ms", times.into_iter().fold(0.0, f64::max))
        .print();
    Ok(())
}

/// Messages a second between the first and the last that was accepted.
fn rate(summary: &Summary) -> Result<f64> {
    let (first, last) = summary.first_at.zip(summary.last_at).context("messages that were accepted")?;
    let seconds = (last - first).num_microseconds().context("a time")? as f64 / 1e6;
    Ok((summary.accepted.saturating_sub(1)) as f64 / seconds)
}

/// `messages`: what one worker gets accepted a second, by a provider that answers at once; floor: the same requests by the same
/// number at once, without a ledger.
async fn messages(arena: &Arena, many: i64) -> Result<()> {
    arena.faults(&silent()).await?;
    let floor = floor(arena, usize::try_from(many)?).await?;
    arena.provider.forget().await?;
    let plan = sending::plan(&json!({ "cities": ["Enviados"] }));
    sending::start(&arena.client, "Enviados", "cobranza", &plan).await?;
    let summary = arena.accepted(usize::try_from(many)?).await?;
    ensure!(summary.repeated_phones == 0, "{summary:?}");
    Figure::new("dispatch", "messages", rate(&summary)?, "messages/s")
        .floor_of_rate(floor)
        .n(summary.accepted)
        .print();
    Ok(())
}

/// The same requests, by bare clients.
async fn floor(arena: &Arena, many: usize) -> Result<f64> {
    arena.provider.forget().await?;
    let http = reqwest::Client::builder().http1_only().timeout(Duration::from_secs(20)).build()?;
    let (url, authorization) = (arena.provider.messages_url(), arena.provider.authorization());
    let callback = format!("{}/webhooks/telnyx", arena.platform.gateway_url());
    let requests = futures::stream::iter(0..many).map(|number| {
        let message = json!({
            "to": format!("+52612{:07}", 2_000_000 + number), "from": SENDER, "text": format!("Hola Persona {number}"),
            "type": "SMS", "encoding": "gsm7", "use_profile_webhooks": false,
            "webhook_url": format!("{callback}?message={}&attempt=1", uuid_of(number)),
        });
        let request = http.post(&url).header("authorization", &authorization).json(&message);
        async move {
            let answer = request.send().await?.error_for_status()?;
            anyhow::Ok(answer.bytes().await?.len())
        }
    });
    let mut answers = requests.buffer_unordered(IN_FLIGHT);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    let summary = arena.summary().await?;
    ensure!(summary.accepted == many, "{summary:?}");
    rate(&summary)
}

fn uuid_of(number: usize) -> String {
    format!("00000000-0000-8000-8000-{number:012x}")
}

/// `settled`: messages that are delivered, and known to be, a second: with both webhooks of each through the gateway.
async fn settled(arena: &Arena, many: i64) -> Result<()> {
    arena.provider.forget().await?;
    arena.faults(&Faults { texts: false, ..Faults::default() }).await?;
    let plan = sending::plan(&json!({ "cities": ["Entregados"] }));
    let before = arena.updates().await?;
    let id = sending::start(&arena.client, "Entregados", "cobranza", &plan).await?;
    let summary = arena.accepted(1).await?;
    let began = Instant::now();
    arena.when(&id, |progress| progress["messages"]["delivered"] == many).await?;
    let took = began.elapsed().as_secs_f64();
    // What a backend has done is told a little later.
    let after = || async { arena.updates().await.unwrap_or(before) };
    stack::wait::until("all updates should be counted", Duration::from_secs(30), async || {
        // Submitted, and delivered: a webhook may come before the answer.
        after().await.0 - before.0 >= 2 * many
    })
    .await?;
    let after = after().await;
    let share = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
    let delivered = many as f64 - summary.accepted as f64;
    Figure::new("dispatch", "settled", delivered / took, "messages/s")
        .n(usize::try_from(many)?)
        .number("updates_a_row", (after.0 - before.0) as f64 / many as f64)
        .number("heap_only_share", share)
        .print();
    Ok(())
}
