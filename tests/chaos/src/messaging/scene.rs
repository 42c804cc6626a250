use super::account::{Deleted, Duty};
use super::orders::{self, OrderPlaced, QUEUES, SERVICE, SHIPMENTS, ShipOrder, TABLES, Worker};
use anyhow::{Context, Result, ensure};
use messaging::{Broker, BrokerConfig, Destination, Envelope, Outgoing, TopologyKeeper};
use outbox::Relay;
use outbox::dead_letters::{Archiver, Filter, Selection, discard};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Client, StatusCode};
use sea_orm::SqlxPostgresConnector;
use sea_orm::sqlx::{self, PgPool, postgres::PgPoolOptions};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use serde_json::Value;
use stack::namespace::create_role;
use stack::proxy::Proxy;
use stack::server::{Durability, Postgres, Rabbit, RabbitPorts};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How long the work of a round may take to come to rest once the broker is left alone.
const FINAL: Duration = Duration::from_secs(45);
/// Nothing moves for so long: what is missing will not come. Longer than any pause of a consumer or of the broker, and
/// than a publisher waits for a confirm before it tries another channel.
const STILL: Duration = Duration::from_secs(14);
/// The same where nothing is missing: a copy may wait in a retry queue.
const AT_REST: Duration = Duration::from_millis(600);
/// How long the outbox may take without consumers. A row that came back waits for some seconds.
const PUBLISHED: Duration = Duration::from_secs(20);
/// How long consumers may take to drain.
const DRAINED: Duration = Duration::from_secs(60);
/// How long the broker's own figures may lag behind.
const FIGURES: Duration = Duration::from_secs(20);
/// Orders that a writer writes at most: enough to be struck in their midst.
const MOST_ORDERS: i64 = 1_200;

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        outbox::migrations()
    }
}

/// A publishing and a consuming service, each with a broker of its own behind a proxy of its own, on one schema. Both live as
/// long as the case.
pub struct Scene {
    pub rabbit: Rabbit,
    /// Between the publishing service and RabbitMQ.
    pub publishing: Arc<Proxy>,
    postgres: Postgres,
    pool: PgPool,
    publisher: Broker,
    consumer: Broker,
    relay: (CancellationToken, JoinHandle<()>),
    consumers: Option<(CancellationToken, JoinSet<()>)>,
    /// The number of the last order.
    orders: Arc<AtomicI64>,
    connections: Arc<AtomicUsize>,
    _counting: AbortOnDropHandle<()>,
    http: Client,
    dir: PathBuf,
}

impl Scene {
    pub async fn start(name: &str) -> Result<Self> {
        stack::install_tls();
        let dir = stack::home().join(format!("chaos/messaging-{name}-{}", stack::random_hex(3)));
        let password = stack::random_hex(12);
        // Nobody kills it.
        let port = stack::ports::free()?;
        let postgres = Postgres::at(&dir.join("postgres"), port, &password, Durability::None)?;
        let ports = RabbitPorts {
            amqp: stack::ports::free()?,
            management: stack::ports::free()?,
            prometheus: stack::ports::free()?,
            distribution: stack::ports::free()?,
            epmd: stack::ports::free()?,
        };
        let rabbit = Rabbit::at(&dir.join("rabbit"), ports, &password)?;
        tokio::try_join!(postgres.start(), rabbit.start())?;
        // What expires into a queue that is not there is tried again after 3 min by default.
        let patience = "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000).";
        rabbit.control(&["eval", patience]).await?;

        create_role(&postgres.url(), SERVICE, &password).await?;
        let url = postgres.url_of(SERVICE, &password);
        let pool = PgPoolOptions::new().max_connections(40).connect(&url).await?;
        Migrator::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone()), None).await?;
        sqlx::raw_sql(TABLES).execute(&pool).await?;

        let (publishing, publisher) = broker(&rabbit, "publishing").await?;
        let (consuming, consumer) = broker(&rabbit, "consuming").await?;
        declare(&[&publisher, &consumer]).await?;
        let shutdown = CancellationToken::new();
        // As in every process of a service.
        tokio::spawn(TopologyKeeper::new(publisher.clone(), &QUEUES).run(shutdown.clone()));
        let relay = tokio::spawn(Relay::new(pool.clone(), publisher.clone()).run(shutdown.clone()));
        let connections = Arc::new(AtomicUsize::new(0));
        let counting = count_connections(connections.clone(), [publishing.clone(), consuming]);
        let mut scene = Self {
            rabbit,
            publishing,
            postgres,
            pool,
            publisher,
            consumer,
            relay: (shutdown, relay),
            consumers: None,
            orders: Arc::default(),
            connections,
            _counting: AbortOnDropHandle::new(tokio::spawn(counting)),
            http: stack::http(),
            dir,
        };
        scene.start_consumers();
        Ok(scene)
    }

    /// Starts the consuming service: its consumers and its archiver.
    pub fn start_consumers(&mut self) {
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for queue in QUEUES {
            tasks.spawn(Worker::consumer(&self.pool, &self.consumer, queue).run(shutdown.clone()));
        }
        let archiver = Archiver::new(self.pool.clone(), self.consumer.clone(), &QUEUES);
        tasks.spawn(archiver.run(shutdown.clone()));
        self.consumers = Some((shutdown, tasks));
    }

    /// Drains the consuming service, and waits for its end.
    pub async fn stop_consumers(&mut self) -> Result<()> {
        let Some((shutdown, tasks)) = self.consumers.take() else { return Ok(()) };
        shutdown.cancel();
        tokio::time::timeout(DRAINED, tasks.join_all()).await.context("the consumers do not drain")?;
        Ok(())
    }

    /// Writes orders in small transactions until it is stopped.
    pub fn write(&self, round: u32, seed: u64) -> Writer {
        let stop = CancellationToken::new();
        let (pool, orders, stopped) = (self.pool.clone(), self.orders.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut written = 0;
            while !stopped.is_cancelled() && written < MOST_ORDERS {
                let count = random.random_range(1..=8);
                place(&pool, &orders, round, count, &mut random).await?;
                written += count;
                tokio::time::sleep(Duration::from_millis(random.random_range(5..20))).await;
            }
            Ok(())
        });
        Writer { stop, task }
    }

    /// Writes so many orders in one transaction.
    pub async fn place(&self, round: u32, count: usize, seed: u64) -> Result<()> {
        place(&self.pool, &self.orders, round, count as i64, &mut StdRng::seed_from_u64(seed)).await
    }

    /// The number of the last order that was begun.
    pub fn last_order(&self) -> i64 {
        self.orders.load(Ordering::SeqCst)
    }

    /// Rows in the outbox.
    pub async fn outbox(&self) -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(&self.pool).await?)
    }

    pub async fn outbox_gets_empty(&self) -> bool {
        let empty = async || self.outbox().await.is_ok_and(|rows| rows == 0);
        stack::wait::until("the outbox should get empty", PUBLISHED, empty).await.is_ok()
    }

    /// What all consumers owe a round's orders, and have done so far.
    pub async fn duties(&self, round: u32) -> Result<Vec<Duty>> {
        let rows = sqlx::query(
            "SELECT o.number, o.failures, d.queue, d.message_id, coalesce(e.runs, 0) AS runs,
                    coalesce(e.applied, 0) AS applied, coalesce(l.letters, 0) AS letters
             FROM orders o
             CROSS JOIN LATERAL (VALUES (o.command, 'chaos.shipments'), (o.event, 'chaos.invoices'),
                                        (o.event, 'chaos.statistics')) AS d (message_id, queue)
             LEFT JOIN effects e USING (message_id, queue)
             LEFT JOIN (SELECT message_id, queue, count(*) AS letters FROM dead_letters
                        GROUP BY message_id, queue) l USING (message_id, queue)
             WHERE o.round = $1 ORDER BY o.number, d.queue",
        )
        .bind(i32::try_from(round)?)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok(Duty::read(row)?)).collect()
    }

    /// Waits until a round's orders have come to an end and nothing is under way any more, or until nothing moves. With it,
    /// whether it came to rest at all.
    pub async fn settled(&self, round: u32) -> Result<(Vec<Duty>, bool)> {
        let end = Instant::now() + FINAL;
        let (mut moved, mut seen) = (Instant::now(), -1);
        loop {
            let busy = self.busy().await?;
            let duties = self.duties(round).await?;
            let runs = duties.iter().map(|duty| i64::from(duty.runs) + duty.letters).sum();
            if busy.is_some() || runs != seen {
                (moved, seen) = (Instant::now(), runs);
            }
            let patience = if duties.iter().all(Duty::is_settled) { AT_REST } else { STILL };
            if moved.elapsed() > patience {
                return Ok((duties, true));
            }
            if Instant::now() > end {
                eprintln!("round {round} does not come to rest: {busy:?}");
                return Ok((duties, false));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is under way, if anything is.
    async fn busy(&self) -> Result<Option<String>> {
        let rows = self.outbox().await?;
        if rows > 0 {
            return Ok(Some(format!("{rows} rows in the outbox")));
        }
        for queue in QUEUES {
            match self.consumer.depth(queue).await {
                Ok(depth) if depth.ready + depth.in_flight + depth.dead == 0 => {}
                Ok(depth) => return Ok(Some(format!("{}: {depth:?}", queue.name))),
                Err(error) => return Ok(Some(format!("{}: {error:#}", queue.name))),
            }
        }
        Ok(None)
    }

    /// Sends again what went with a deleted queue, as a service's sweeper does that finds its rows without outcome. How many.
    pub async fn sweep(&self, duties: &[Duty], deleted: &Deleted) -> Result<usize> {
        let gone =
            duties.iter().filter(|duty| !duty.is_settled() && (deleted.took(duty) || deleted.hid(duty)));
        let again = gone.map(again).collect::<Result<Vec<_>>>()?;
        let mut conn = self.pool.acquire().await?;
        outbox::enqueue(&mut conn, &again).await?;
        Ok(again.len())
    }

    /// What the doctor finds. Letters are discarded first, as by an operator: orders that always fail are no news.
    pub async fn findings(&self) -> Result<Vec<String>> {
        discard(&self.pool, &Selection::Filter(Filter::default()), SERVICE, false).await?;
        Ok(outbox::doctor(&self.pool).await?)
    }

    /// Deletes one of the broker's queues with what is in it. Whether it was there.
    pub async fn delete(&self, name: &str) -> Result<bool> {
        let url = format!("{}/api/queues/%2F/{name}", self.rabbit.management_url());
        let answer = self.http.delete(&url).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.error_for_status().map(|_| true).with_context(|| format!("delete {name}"))
    }

    /// Prints what the broker itself says of its queues; its figures are some seconds old.
    pub async fn tell_queues(&self) -> Result<()> {
        let columns = "name,messages_ready,messages_unacknowledged,consumers";
        let url = format!("{}/api/queues/%2F?columns={columns}", self.rabbit.management_url());
        let queues: Vec<Value> = self.http.get(&url).send().await?.error_for_status()?.json().await?;
        for queue in queues {
            eprintln!("in the broker: {queue}");
        }
        Ok(())
    }

    /// Messages in any of the broker's queues when all is done.
    pub async fn left_in_queues(&self) -> Result<usize> {
        let end = Instant::now() + FIGURES;
        let url = format!("{}/api/queues/%2F?columns=name,messages", self.rabbit.management_url());
        loop {
            let queues: Vec<Value> = self.http.get(&url).send().await?.error_for_status()?.json().await?;
            let left: u64 = queues.iter().filter_map(|queue| queue["messages"].as_u64()).sum();
            if left == 0 || Instant::now() > end {
                for queue in queues.iter().filter(|queue| queue["messages"].as_u64() != Some(0)) {
                    eprintln!("left in the broker: {queue}");
                }
                return Ok(usize::try_from(left)?);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The most connections that one of the services had at a time.
    pub fn most_connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Stops everything. Data and logs go too, where there is nothing in them to look at.
    pub async fn end(mut self, clean: bool) -> Result<()> {
        let drained = self.stop_consumers().await;
        let Self { rabbit, postgres, pool, publisher, consumer, relay: (shutdown, relay), dir, .. } = self;
        shutdown.cancel();
        let relayed = tokio::time::timeout(DRAINED, relay).await.context("the relay does not drain");
        drop((publisher, consumer));
        pool.close().await;
        tokio::try_join!(rabbit.stop(), postgres.stop())?;
        drained.and(relayed?.context("the relay"))?;
        if clean {
            postgres.remove_data()?;
            std::fs::remove_dir_all(&dir)?;
        } else {
            eprintln!("logs and data stay in {}", dir.display());
        }
        Ok(())
    }
}

/// Makes the queues known and there. The one place where a case does so.
async fn declare(brokers: &[&Broker]) -> Result<()> {
    for broker in brokers {
        broker.declare(&QUEUES).await?;
    }
    Ok(())
}

/// A broker of a service, behind a proxy.
async fn broker(rabbit: &Rabbit, service: &str) -> Result<(Arc<Proxy>, Broker)> {
    let (proxy, url) = Proxy::before(&rabbit.url()).await?;
    let config = BrokerConfig { service: service.to_owned(), amqp_url: Some(url), ..BrokerConfig::default() };
    Ok((Arc::new(proxy), Broker::new(config)?))
}

/// Keeps the most connections that one of the proxies has at a time.
async fn count_connections(most: Arc<AtomicUsize>, proxies: [Arc<Proxy>; 2]) {
    loop {
        for proxy in &proxies {
            most.fetch_max(proxy.open(), Ordering::SeqCst);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn place(pool: &PgPool, last: &AtomicI64, round: u32, count: i64, random: &mut StdRng) -> Result<()> {
    let first = last.fetch_add(count, Ordering::SeqCst) + 1;
    let orders: Vec<_> = (first..first + count).map(|number| orders::draw(random, number)).collect();
    orders::place(pool, round, &orders).await
}

/// The message of a duty once more, to its queue alone.
fn again(duty: &Duty) -> Result<Outgoing> {
    let (envelope, outgoing): (_, fn(&Envelope) -> _) = if duty.queue == SHIPMENTS.name {
        (Envelope::new(SERVICE, &ShipOrder(duty.order()))?, Outgoing::new::<ShipOrder>)
    } else {
        (Envelope::new(SERVICE, &OrderPlaced(duty.order()))?, Outgoing::new::<OrderPlaced>)
    };
    let outgoing = outgoing(&Envelope { id: duty.message_id, ..envelope })?;
    Ok(Outgoing { destination: Destination::Queue(duty.queue.clone()), ..outgoing })
}

/// Orders that are being written.
pub struct Writer {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    /// Waits for the transaction under way.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let ended = self.task.await?;
        ensure!(ended.is_ok(), "orders could not be written: {ended:?}");
        Ok(())
    }
}
