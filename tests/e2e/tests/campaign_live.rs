//! A campaign as those see it who watch the stream.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::Scene;
use e2e::stream::{Event, Stream, about};
use serde_json::json;
use stack::platform::sending::{self, Provider};
use stack::services::SMS_DISPATCH;

const LIMIT: Duration = Duration::from_secs(120);
const RECIPIENTS: i64 = 1_600;

#[tokio::test]
async fn operators_and_viewers_see_a_campaign_go_and_nobody_a_phone() -> Result<()> {
    stack::install_tls();
    let (namespace, place, options) = e2e::place("campaignlive").await?;
    let provider = Provider::start(&options.dir).await?;
    let options = provider
        .settings(options.workers(0).with(&SMS_DISPATCH, 2))
        .env("TELNYX_PARTS_PER_SECOND", 1_000)
        .env("SMS_QUIET_HOURS", false);
    let scene = Scene::on(namespace, place, &options).await?;
    let admin = scene.platform.admin().await?;
    // For some seconds.
    sending::keep_sender(&admin, 300.0, LIMIT).await?;
    sending::people(&scene.platform.contacts().await?, "La Paz", 1_000_000, RECIPIENTS).await?;
    let (operator, viewer) =
        (scene.platform.user("operator", None).await?, scene.platform.user("viewer", None).await?);
    let mut watchers = [Stream::open(&operator, None).await?, Stream::open(&viewer, None).await?];

    let began = Instant::now();
    let plan = sending::plan(&json!({ "cities": ["La Paz"] }));
    let id = sending::start(&operator, "Viva", "cobranza", &plan).await?;
    let pending =
        |progress: &serde_json::Value| progress["messages"]["pending"].as_i64().unwrap_or(RECIPIENTS);
    sending::when(&operator, &id, LIMIT, |progress| {
        progress["state"] == "running" && pending(progress) < RECIPIENTS - 300
    })
    .await?;
    sending::act(&operator, &id, "pause").await?;
    let mut seen: [Vec<Event>; 2] = Default::default();
    for (stream, seen) in watchers.iter_mut().zip(&mut seen) {
        seen.extend(stream.until("lote.sms.v1.CampaignPaused", &id).await?);
        let paused = &seen.last().context("the pause")?.data["data"];
        ensure!(paused["state"] == "paused" && paused["name"] == "Viva", "{paused}");
        ensure!(paused["recipients"] == RECIPIENTS && paused["reason"].is_string(), "{paused}");
    }
    sending::act(&operator, &id, "resume").await?;
    sending::when(&operator, &id, LIMIT, |progress| progress["state"] == "completed").await?;
    let took = began.elapsed().as_secs() as usize;
    let now = operator.get(&format!("{}/{id}/progress", sending::CAMPAIGNS)).await?.body;
    let names = |document: &serde_json::Value| -> Vec<String> {
        document.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
    };

    let is_last = |event: &Event| {
        event.kind == "job.progress"
            && event.data["data"]["id"] == id.as_str()
            && event.data["data"]["state"] == "completed"
    };
    for (stream, seen) in watchers.iter_mut().zip(&mut seen) {
        seen.extend(stream.until("lote.sms.v1.CampaignCompleted", &id).await?);
        if !seen.iter().any(is_last) {
            seen.extend(stream.until_one(is_last).await?);
        }
        let mine = about(seen, &id);
        for fact in ["Created", "Started", "Paused", "Resumed", "Completed"] {
            let kind = format!("lote.sms.v1.Campaign{fact}");
            ensure!(mine.iter().filter(|event| event.kind == kind).count() == 1, "{kind}: {mine:#?}");
        }
        let progress: Vec<_> = mine
            .iter()
            .filter(|event| event.kind == "job.progress")
            .map(|event| &event.data["data"])
            .collect();
        ensure!(progress.len() > 3 && progress.len() <= took + 4, "{} in {took} s", progress.len());
        ensure!(progress.iter().all(|document| names(document) == names(&now)), "{progress:#?}, as {now}");
        for document in progress.iter().filter(|document| document["state"] != "preparing") {
            let messages = document["messages"].as_object().context("messages by state")?;
            let all: i64 = messages.values().filter_map(serde_json::Value::as_i64).sum();
            ensure!(all == RECIPIENTS && document["recipients"] == RECIPIENTS, "{document}");
        }
        ensure!(about(seen, "+52612").is_empty(), "phones are nobody's to see here: {seen:#?}");
    }

    // One that never began ends, too.
    let draft = json!({ "name": "Nunca", "kind": "cobranza", "plan": plan });
    let draft = operator.post(sending::CAMPAIGNS, &draft).await?;
    let id = draft.body["id"].as_str().with_context(|| format!("{draft}"))?.to_owned();
    sending::act(&operator, &id, "cancel").await?;
    for stream in &mut watchers {
        let events = stream.until("lote.sms.v1.CampaignCompleted", &id).await?;
        let ended = &events.last().context("the end")?.data["data"];
        ensure!(ended["state"] == "cancelled" && ended["date"].is_null(), "{ended}");
    }
    Ok(())
}
