use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use failpoints::Point;
use messaging::{Broker, Destination, Outgoing, PublishError};
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::{
    task::{self, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, hint,
    metrics::{metrics, sample},
};

/// Rows published, and deleted, together.
const BATCH: i64 = 500;
/// Destinations worked on at once: each holds a connection while the broker confirms.
const LANES: usize = 4;
/// The longest that a batch may take from publish to confirms; the broker's own limits are shorter.
const CONFIRM: Duration = Duration::from_secs(60);
/// How often the gauges are brought up to date.
const SAMPLE: Duration = Duration::from_secs(10);

/// Publishes what the outbox holds, with confirms, and deletes what the broker confirmed.
///
/// Any number may run at once: a batch's rows are locked (`FOR UPDATE SKIP LOCKED`) from claim to
/// deletion, in one transaction, so a relay that dies gives them back, and what it had published is
/// published again. Each destination has a lane of its own, so that one whose broker is away, or whose
/// messages are refused, holds up no other.
pub struct Relay {
    pool: PgPool,
    broker: Broker,
}

impl Relay {
    /// Relays the outbox in the pool's schema.
    pub fn new(pool: PgPool, broker: Broker) -> Self {
        Self { pool, broker }
    }

    /// Returns when `shutdown` is cancelled and the batches under way are settled.
    pub async fn run(self, shutdown: CancellationToken) {
        let (hint, _listener) = hint::listen(self.pool.clone());
        let mut lanes = Lanes::default();
        let mut database_down = false;
        let mut lively_until = Instant::now();
        let mut sample_at = Instant::now();
        while !shutdown.is_cancelled() {
            if sample_at <= Instant::now() {
                sample_at = Instant::now() + SAMPLE;
                if let Err(error) = sample(&self.pool).await {
                    tracing::debug!(%error, "outbox not measured");
                }
            }
            match destinations(&self.pool).await {
                Ok(destinations) => {
                    if std::mem::take(&mut database_down) {
                        tracing::info!("outbox: the database is back");
                    }
                    for destination in destinations {
                        lanes.start(&self, destination, &shutdown);
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut database_down, true) {
                        tracing::warn!(%error, "outbox: the database is away, will keep trying");
                    }
                }
            }
            // Rows that were written while the last hint was young came without one: look again soon.
            let pause = if Instant::now() < lively_until {
                hint::INTERVAL * 2
            } else {
                Duration::from_millis(rand::rng().random_range(500..1000))
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = hint.notified() => lively_until = Instant::now() + hint::INTERVAL * 4,
                () = sleep(pause) => {}
                true = lanes.next() => lively_until = Instant::now() + hint::INTERVAL * 4,
            }
        }
        lanes.drain().await;
    }
}

/// The destinations that have rows due. A loose index scan: one step a destination, whatever the backlog.
async fn destinations(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "WITH RECURSIVE each AS (
             (SELECT destination FROM outbox ORDER BY destination LIMIT 1)
             UNION ALL
             SELECT (SELECT o.destination FROM outbox o WHERE o.destination > each.destination
                     ORDER BY o.destination LIMIT 1)
             FROM each WHERE each.destination IS NOT NULL)
         SELECT destination FROM each
         WHERE EXISTS (SELECT 1 FROM outbox o WHERE o.destination = each.destination AND o.next_at <= now())",
    )
    .fetch_all(pool)
    .await?)
}

/// The destinations at work, and those that are left alone for a while.
#[derive(Default)]
struct Lanes {
    tasks: JoinSet<LaneEnd>,
    destinations: HashMap<task::Id, String>,
    running: HashSet<String>,
    away: HashMap<String, Away>,
}

/// A destination whose broker does not answer.
struct Away {
    failures: u32,
    until: Instant,
}

/// How a lane ended.
enum LaneEnd {
    /// Nothing more is due. Whether there was anything.
    Dry { worked: bool },
    /// The broker did not take what is still there.
    Away(String),
}

impl Lanes {
    fn start(&mut self, relay: &Relay, destination: String, shutdown: &CancellationToken) {
        let paused = self.away.get(&destination).is_some_and(|away| away.until > Instant::now());
        if paused || self.running.len() >= LANES || !self.running.insert(destination.clone()) {
            return;
        }
        let (pool, broker, shutdown) = (relay.pool.clone(), relay.broker.clone(), shutdown.clone());
        let lane = self.tasks.spawn({
            let destination = destination.clone();
            async move { work_off(&pool, &broker, &destination, &shutdown).await }
        });
        self.destinations.insert(lane.id(), destination);
    }

    /// Waits for a lane to end. Returns whether it had work; false, at once, where none runs.
    async fn next(&mut self) -> bool {
        let (id, end) = match self.tasks.join_next_with_id().await {
            None => return false,
            Some(Ok((id, end))) => (id, end),
            // A lane that panicked has rolled back; its rows are as they were.
            Some(Err(error)) => (error.id(), LaneEnd::Away(error.to_string())),
        };
        let Some(destination) = self.destinations.remove(&id) else { return false };
        self.running.remove(&destination);
        match end {
            LaneEnd::Dry { worked } => {
                if worked && let Some(away) = self.away.remove(&destination) {
                    tracing::info!(destination, failures = away.failures, "outbox: publishing again");
                }
                worked
            }
            LaneEnd::Away(reason) => {
                let failures = self.away.get(&destination).map_or(0, |away| away.failures);
                if failures == 0 {
                    tracing::warn!(destination, reason, "outbox: cannot publish, rows stay until it works");
                }
                let pause =
                    Duration::from_millis(100 << failures.min(4)).mul_f64(rand::rng().random_range(0.8..1.2));
                let away = Away { failures: failures.saturating_add(1), until: Instant::now() + pause };
                self.away.insert(destination, away);
                false
            }
        }
    }

    async fn drain(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Publishes a destination's rows, batch after batch, until none is due, the broker is away, or the
/// process drains.
async fn work_off(
    pool: &PgPool,
    broker: &Broker,
    destination: &str,
    shutdown: &CancellationToken,
) -> LaneEnd {
    let mut worked = false;
    while !shutdown.is_cancelled() {
        match relay_batch(pool, broker, destination).await {
            Ok(Batch { away: Some(reason), .. }) => return LaneEnd::Away(reason),
            Ok(Batch { claimed: 0, .. }) => break,
            Ok(_) => worked = true,
            Err(error) => return LaneEnd::Away(error.to_string()),
        }
    }
    LaneEnd::Dry { worked }
}

struct Batch {
    claimed: usize,
    away: Option<String>,
}

/// One transaction: lock, publish, delete what was confirmed, put back for later what was refused. What
/// could not be sent because the broker is away stays as it is.
async fn relay_batch(pool: &PgPool, broker: &Broker, destination: &str) -> Result<Batch, Error> {
    let mut transaction = pool.begin().await?;
    // Planned anew each time: a plan made for the empty table would scan and sort a full one.
    let rows = sqlx::query(
        "SELECT id, message_id, kind, body FROM outbox WHERE destination = $1 AND next_at <= now()
         ORDER BY next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(destination)
    .bind(BATCH)
    .persistent(false)
    .fetch_all(&mut *transaction)
    .await?;
    if rows.is_empty() {
        return Ok(Batch { claimed: 0, away: None });
    }
    let ids = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<Vec<i64>>>()?;
    let to = match destination.parse::<Destination>() {
        Ok(to) => to,
        Err(reason) => {
            let failed = ids.iter().map(|id| (*id, reason.clone())).collect();
            put_back(&mut transaction, destination, failed).await?;
            transaction.commit().await?;
            return Ok(Batch { claimed: ids.len(), away: None });
        }
    };
    let messages = rows.into_iter().map(|row| outgoing(&to, &row)).collect::<sqlx::Result<Vec<_>>>()?;
    let Ok(results) = timeout(CONFIRM, broker.publish(&messages)).await else {
        return Ok(Batch { claimed: ids.len(), away: Some(format!("no confirms within {CONFIRM:?}")) });
    };
    failpoints::hit(Point::RelayPublished);

    let (mut confirmed, mut failed, mut away) = (Vec::with_capacity(ids.len()), Vec::new(), None);
    for (id, result) in ids.iter().copied().zip(results) {
        match result {
            Ok(()) => confirmed.push(id),
            Err(PublishError::Unavailable(reason)) => away = Some(reason),
            Err(error @ (PublishError::Unroutable(_) | PublishError::Refused { .. })) => {
                failed.push((id, error.to_string()));
            }
        }
    }
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)").bind(&confirmed).execute(&mut *transaction).await?;
    put_back(&mut transaction, destination, failed).await?;
    transaction.commit().await?;
    failpoints::hit(Point::RelayDeleted);
    metrics().published.with_label_values(&[destination]).inc_by(confirmed.len() as u64);
    Ok(Batch { claimed: ids.len(), away })
}

fn outgoing(to: &Destination, row: &PgRow) -> sqlx::Result<Outgoing> {
    Ok(Outgoing {
        destination: to.clone(),
        id: row.try_get("message_id")?,
        kind: row.try_get("kind")?,
        body: row.try_get::<String, _>("body")?.into(),
    })
}

/// Keeps the error with each row and tries it again after 2 s, 4 s, … up to 5 min, so that rows that
/// nobody takes don't stand in the way of the others.
async fn put_back(
    conn: &mut PgConnection,
    destination: &str,
    failed: Vec<(i64, String)>,
) -> Result<(), Error> {
    let Some((_, error)) = failed.first() else { return Ok(()) };
    tracing::warn!(destination, rows = failed.len(), error, "outbox: not taken, will be tried again later");
    metrics().failed.with_label_values(&[destination]).inc_by(failed.len() as u64);
    let (ids, errors): (Vec<i64>, Vec<String>) = failed.into_iter().unzip();
    sqlx::query(
        "UPDATE outbox SET attempts = attempts + 1, last_error = failed.error,
                next_at = clock_timestamp()
                    + make_interval(secs => least(300, 2 ^ least(attempts + 1, 9)) * (0.8 + 0.2 * random()))
         FROM UNNEST($1::bigint[], $2::text[]) AS failed (id, error) WHERE outbox.id = failed.id",
    )
    .bind(&ids)
    .bind(&errors)
    .execute(conn)
    .await?;
    Ok(())
}
