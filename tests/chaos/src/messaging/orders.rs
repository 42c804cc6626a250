//! The work: each order is shipped, by command, and two others hear of it, by event. Some fail first, some for good.

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use contracts::{Message, Queue, Route, Routed, Transport};
use messaging::{Backoff, Consumer, Context, Handler, JobError, Policy};
use outbox::{Meta, inbox};
use rand::RngExt;
use rand::rngs::StdRng;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What sends and consumes, for envelopes.
pub const SERVICE: &str = "chaos";

const PLACED: &str = "chaos.order_placed.v1";
pub static SHIPMENTS: Queue = Queue { name: "chaos.shipments", transport: Transport::Amqp, events: &[] };
pub static INVOICES: Queue = Queue { name: "chaos.invoices", transport: Transport::Amqp, events: &[PLACED] };
pub static STATISTICS: Queue =
    Queue { name: "chaos.statistics", transport: Transport::Amqp, events: &[PLACED] };
pub static QUEUES: [&Queue; 3] = [&SHIPMENTS, &INVOICES, &STATISTICS];

/// Pauses before an attempt is repeated: a retry queue each.
pub const BACKOFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(300)];
/// The failures of an order that always fails.
pub const FOR_GOOD: i64 = -1;

/// The tables of the service. An effect is counted where it is had, a run of the handler whatever comes of it.
pub const TABLES: &str = "
CREATE TABLE orders (number bigint PRIMARY KEY, round integer NOT NULL, failures bigint NOT NULL,
                     command uuid NOT NULL, event uuid NOT NULL);
CREATE INDEX ON orders (round);
CREATE TABLE effects (message_id uuid, queue text, runs integer NOT NULL, applied integer NOT NULL DEFAULT 0,
                      PRIMARY KEY (message_id, queue));
";

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    pub number: i64,
    /// Attempts that fail before one succeeds, or [`FOR_GOOD`].
    pub failures: i64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShipOrder(pub Order);

impl Message for ShipOrder {
    const TYPE: &'static str = "lote.chaos.v1.ShipOrder";
}

impl Routed for ShipOrder {
    const ROUTE: Route = Route::Command(&SHIPMENTS);
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderPlaced(pub Order);

impl Message for OrderPlaced {
    const TYPE: &'static str = "lote.chaos.v1.OrderPlaced";
}

impl Routed for OrderPlaced {
    const ROUTE: Route = Route::Event(PLACED);
}

/// An order of which nothing is known but its number: one of eight fails once or twice, one of thirty for good.
pub fn draw(random: &mut StdRng, number: i64) -> Order {
    let failures = match random.random_range(0..240) {
        0..8 => FOR_GOOD,
        8..38 => random.random_range(1..=2),
        _ => 0,
    };
    Order { number, failures }
}

/// Writes orders with their messages, in one transaction.
pub async fn place(pool: &PgPool, round: u32, orders: &[Order]) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let about = |order: &Order| Meta::about(order.number);
    let commands = orders.iter().map(|order| (ShipOrder(*order), about(order))).collect();
    let commands = outbox::publish_all(&mut transaction, SERVICE, commands).await?;
    let events = orders.iter().map(|order| (OrderPlaced(*order), about(order))).collect();
    let events = outbox::publish_all(&mut transaction, SERVICE, events).await?;
    let (numbers, failures): (Vec<i64>, Vec<i64>) =
        orders.iter().map(|order| (order.number, order.failures)).unzip();
    sqlx::query(
        "INSERT INTO orders (number, failures, command, event, round)
         SELECT *, $5 FROM UNNEST($1::bigint[], $2::bigint[], $3::uuid[], $4::uuid[])",
    )
    .bind(numbers)
    .bind(failures)
    .bind(commands)
    .bind(events)
    .bind(i32::try_from(round)?)
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// Works orders, whatever queue they come by.
pub struct Worker(pub PgPool);

impl Worker {
    /// A consumer of one of [`QUEUES`].
    pub fn consumer(pool: &PgPool, broker: &messaging::Broker, queue: &'static Queue) -> Consumer {
        Consumer::new(broker, queue)
            .policy(Policy { backoff: Backoff { steps: BACKOFF.to_vec() }, ..Policy::default() })
            .handle::<ShipOrder>(Self(pool.clone()))
            .handle::<OrderPlaced>(Self(pool.clone()))
    }

    async fn work(&self, order: Order, context: &Context) -> Result<(), JobError> {
        self.count_run(context).await.map_err(JobError::retry)?;
        if order.failures == FOR_GOOD {
            return Err(JobError::fail(anyhow!("order {} always fails", order.number)));
        }
        if i64::from(context.attempt) <= order.failures {
            return Err(JobError::retry(anyhow!("order {} fails at first", order.number)));
        }
        self.apply(context).await.map_err(JobError::retry)
    }

    async fn count_run(&self, context: &Context) -> Result<()> {
        let count = "INSERT INTO effects (message_id, queue, runs) VALUES ($1, $2, 1)
                     ON CONFLICT (message_id, queue) DO UPDATE SET runs = effects.runs + 1";
        sqlx::query(count).bind(context.id).bind(context.queue).execute(&self.0).await?;
        Ok(())
    }

    async fn apply(&self, context: &Context) -> Result<()> {
        let mut transaction = self.0.begin().await?;
        if inbox::record(&mut transaction, context.queue, context.id).await? {
            apply(&mut transaction, context).await?;
        }
        Ok(transaction.commit().await?)
    }
}

async fn apply(conn: &mut PgConnection, context: &Context) -> Result<()> {
    let apply = "UPDATE effects SET applied = applied + 1 WHERE message_id = $1 AND queue = $2";
    sqlx::query(apply).bind(context.id).bind(context.queue).execute(conn).await?;
    Ok(())
}

#[async_trait]
impl Handler<ShipOrder> for Worker {
    async fn handle(&self, message: ShipOrder, context: &Context) -> Result<(), JobError> {
        self.work(message.0, context).await
    }
}

#[async_trait]
impl Handler<OrderPlaced> for Worker {
    async fn handle(&self, message: OrderPlaced, context: &Context) -> Result<(), JobError> {
        self.work(message.0, context).await
    }
}
