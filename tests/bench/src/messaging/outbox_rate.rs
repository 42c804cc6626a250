use super::{Bench, Tick, WORK};
use crate::figure::{Figure, median};
use anyhow::Result;
use async_trait::async_trait;
use outbox::{Meta, Relay};
use sea_orm::sqlx::{self, postgres::PgPoolOptions};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Rows a round, committed at once.
const COUNT: usize = 20_000;
const ROUNDS: usize = 5;

struct Migrator;

#[async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        outbox::migrations()
    }
}

/// Makes the tables of outbox and inbox.
pub async fn migrate(url: &str) -> Result<()> {
    let database = sea_orm::Database::connect(url).await?;
    Migrator::up(&database, None).await?;
    database.close().await?;
    Ok(())
}

/// `outbox`: rows a second, from their commit until all are confirmed and deleted.
pub async fn measure(bench: &Bench) -> Result<()> {
    migrate(&bench.namespace.database_url).await?;
    let pool = PgPoolOptions::new().max_connections(8).connect(&bench.namespace.database_url).await?;
    let broker = bench.broker()?;
    broker.declare(&[&WORK]).await?;
    let shutdown = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(pool.clone(), broker).run(shutdown.clone()));
    let mut relayed = Relayed::default();
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let mut transaction = pool.begin().await?;
        for _ in 0..COUNT / 1_000 {
            let messages = (0..1_000).map(|_| (Tick { sent: 0 }, Meta::default())).collect();
            outbox::publish_all(&mut transaction, "bench", messages).await?;
        }
        transaction.commit().await?;
        let committed = Instant::now();
        relayed.advance(COUNT as u64).await?;
        let rate = COUNT as f64 / committed.elapsed().as_secs_f64();
        let left: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM outbox)").fetch_one(&pool).await?;
        anyhow::ensure!(!left, "the outbox holds rows that its counter says are relayed");
        eprintln!("outbox {rate:.0}/s");
        bench.empty().await?;
        if round > 0 {
            rates.push(rate);
        }
    }
    shutdown.cancel();
    relay.await?;
    Figure::new("messaging", "outbox", median(rates), "rows/s").n(COUNT).print();
    Ok(())
}

/// Follows the relay by its own counter. To ask the table would scan the dead rows of all that is relayed already,
/// on the cores that relay.
#[derive(Default)]
struct Relayed {
    total: u64,
}

impl Relayed {
    /// Waits until `count` rows more are deleted.
    async fn advance(&mut self, count: u64) -> Result<()> {
        self.total += count;
        let started = Instant::now();
        while published() < self.total {
            anyhow::ensure!(started.elapsed() < Duration::from_secs(120), "the outbox is not relayed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// Rows that this process has relayed, of all destinations.
fn published() -> u64 {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == "lote_outbox_published_total");
    let metrics = family.into_iter().flat_map(|family| family.get_metric());
    metrics.map(|metric| metric.get_counter().get_value()).sum::<f64>() as u64
}
