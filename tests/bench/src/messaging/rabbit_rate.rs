use super::{Bench, CONCURRENCY, Tick, WORK, bare};
use crate::figure::{Figure, median};
use anyhow::{Context as _, Result};
use async_trait::async_trait;
use messaging::{Consumer, Context, Handler, JobError, Policy};
use sea_orm::sqlx::PgPool;
use sea_orm::sqlx::postgres::PgPoolOptions;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Messages a round.
const COUNT: usize = 50_000;
/// Messages a round where each has a transaction.
const COUNT_INBOX: usize = 10_000;
/// Rounds, each with its floor beside it: what disturbs one disturbs the other.
const ROUNDS: usize = 5;

/// Counts, and remembers when the first and the last message were processed.
pub struct Meter {
    wanted: usize,
    seen: AtomicUsize,
    first: Mutex<Option<Instant>>,
    last: Mutex<Option<Instant>>,
    done: Notify,
}

impl Meter {
    pub fn new(wanted: usize) -> Arc<Self> {
        Arc::new(Self {
            wanted,
            seen: AtomicUsize::new(0),
            first: Mutex::default(),
            last: Mutex::default(),
            done: Notify::new(),
        })
    }

    pub fn count(&self) {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if seen == 1 {
            *self.first.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if seen == self.wanted {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.done.notify_one();
        }
    }

    pub async fn done(&self) {
        self.done.notified().await;
    }

    /// Messages a second, from the first to the last.
    pub fn rate(&self) -> Result<f64> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).context("a first message")?;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).context("a last message")?;
        Ok((self.wanted - 1) as f64 / (last - first).as_secs_f64())
    }
}

/// Does nothing.
struct Empty(Arc<Meter>);

#[async_trait]
impl Handler<Tick> for Empty {
    async fn handle(&self, _: Tick, _: &Context) -> Result<(), JobError> {
        self.0.count();
        Ok(())
    }
}

/// Writes an inbox row in a transaction.
struct Once {
    meter: Arc<Meter>,
    pool: PgPool,
}

#[async_trait]
impl Handler<Tick> for Once {
    async fn handle(&self, _: Tick, context: &Context) -> Result<(), JobError> {
        let work = async {
            let mut transaction = self.pool.begin().await?;
            outbox::inbox::record(&mut transaction, "bench", context.id).await?;
            transaction.commit().await?;
            anyhow::Ok(())
        };
        work.await.map_err(JobError::retry)?;
        self.meter.count();
        Ok(())
    }
}

async fn through(bench: &Bench, meter: &Meter, handler: impl Handler<Tick>) -> Result<f64> {
    bench.fill(meter.wanted).await?;
    let policy = Policy { concurrency: CONCURRENCY, ..Policy::default() };
    let broker = bench.broker()?;
    let shutdown = CancellationToken::new();
    let consumer = Consumer::new(&broker, &WORK).policy(policy).handle::<Tick>(handler);
    let running = tokio::spawn(consumer.run(shutdown.clone()));
    meter.done().await;
    shutdown.cancel();
    running.await?;
    meter.rate()
}

/// `rabbitmq`, `rabbitmq_inbox`, `publish_confirmed`. The runtime acknowledges in rows where it can, and so is
/// compared with a bare client that does the same, too.
pub async fn measure(bench: &Bench) -> Result<()> {
    let pool = PgPoolOptions::new().max_connections(16).connect(&bench.namespace.database_url).await?;
    super::outbox_rate::migrate(&bench.namespace.database_url).await?;
    let (mut floors, mut rows, mut rates) = (vec![], vec![], vec![]);
    let (mut inbox, mut published) = (vec![], vec![]);
    bench.empty().await?;
    for round in 0..=ROUNDS {
        let floor = bare::rate(bench, COUNT).await?;
        let floor_in_rows = bare::rate_in_rows(bench, COUNT).await?;
        let meter = Meter::new(COUNT);
        let rate = through(bench, &meter, Empty(meter.clone())).await?;
        let meter = Meter::new(COUNT_INBOX);
        let with_inbox = through(bench, &meter, Once { meter: meter.clone(), pool: pool.clone() }).await?;
        let publishing = COUNT as f64 / bench.fill(COUNT).await?.as_secs_f64();
        drain(bench).await?;
        eprintln!(
            "floor {floor:.0}/s, acknowledging in rows {floor_in_rows:.0}/s, runtime {rate:.0}/s, \
             inbox {with_inbox:.0}/s, publish {publishing:.0}/s"
        );
        // The first round warms everything up.
        if round > 0 {
            floors.push(floor);
            rows.push(floor_in_rows);
            rates.push(rate);
            inbox.push(with_inbox);
            published.push(publishing);
        }
    }
    let (floor, rate, in_rows) = (median(floors), median(rates), median(rows));
    let unit = "messages/s";
    Figure::new("messaging", "rabbitmq", rate, unit)
        .floor_of_rate(floor)
        .n(COUNT)
        .number("floor_in_rows", in_rows)
        .number("ratio_in_rows", in_rows / rate)
        .print();
    Figure::new("messaging", "rabbitmq_inbox", median(inbox), unit)
        .floor_of_rate(floor)
        .n(COUNT_INBOX)
        .print();
    Figure::new("messaging", "publish_confirmed", median(published), unit).n(COUNT).print();
    Ok(())
}

async fn drain(bench: &Bench) -> Result<()> {
    let mut bare = bare::Bare::start(bench).await?;
    for _ in 0..COUNT {
        bare.take().await?;
    }
    bare.leave().await
}
