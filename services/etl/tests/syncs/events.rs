//! What runs tell others when they end.

use anyhow::{Context as _, Result, ensure};
use etl::domain::run::{Mode, RunParams};
use jobs::State;
use sea_orm::sqlx;
use serde_json::Value;
use simulators::bsale::{Fault, Shop, Size};

use crate::world::{Kind, World};

/// The events of this kind that wait to be sent, oldest first.
async fn told(world: &World, kind: &str) -> Result<Vec<Value>> {
    let told = "select body::jsonb -> 'data' from outbox where kind = $1 order by id";
    Ok(sqlx::query_scalar(told).bind(kind).fetch_all(&world.resources.database.pool).await?)
}

#[tokio::test]
async fn a_run_tells_what_it_read_or_why_it_failed() -> Result<()> {
    let world = World::new("etltold", Kind::MariaDb, Shop::new(3, Size::default())).await?;
    let clients = world.bsale.shop(|shop| shop.clients.len());
    let job = world.sync("bsale.clientes", Mode::Full).await?;
    let completed = told(&world, "lote.etl.v1.SyncCompleted").await?;
    let [event] = completed.as_slice() else { anyhow::bail!("{completed:?}") };
    ensure!(event["runId"] == job.id.to_string() && event["stream"] == "bsale.clientes", "{event}");
    ensure!(event["mode"] == "full" && event["inserted"] == clients.to_string().as_str(), "{event}");
    let watermark = event["watermark"].as_str().context("a watermark")?;
    ensure!(watermark.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{event}");

    world.bsale.fail_next([Fault::Status(402)]);
    let failed = world.run(&RunParams::new("bsale.clientes", Mode::Daily)).await?;
    ensure!(failed.state == State::Failed, "{failed:?}");
    let params = RunParams::new("bsale.stock", Mode::Daily);
    let cancelled = world.ask(&params).await?.job().id;
    let mut conn = world.resources.database.pool.acquire().await?;
    jobs::request_cancel(&mut conn, cancelled).await?;
    drop(conn);
    ensure!(world.attempt(cancelled).await?.state == State::Cancelled);
    let ended = told(&world, "lote.etl.v1.SyncFailed").await?;
    let [event, by_hand] = ended.as_slice() else { anyhow::bail!("{ended:?}") };
    ensure!(event["runId"] == failed.id.to_string() && event["mode"] == "daily", "{event}");
    ensure!(event["reason"].as_str().is_some_and(|reason| reason.contains("not paid")), "{event}");
    ensure!(by_hand["stream"] == "bsale.stock" && by_hand["reason"] == "Cancelado", "{by_hand}");
    ensure!(told(&world, "lote.etl.v1.SyncCompleted").await?.len() == 1);
    Ok(())
}
