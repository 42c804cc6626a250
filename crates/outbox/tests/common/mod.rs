//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use async_trait::async_trait;
use contracts::{QUEUES, Transport, catalog::v1::ProcessImport, queues::CATALOG_IMPORTS};
use messaging::{Backoff, Broker, BrokerConfig, Consumer, Context, Handler, JobError, Policy};
use outbox::Meta;
use sea_orm::{
    SqlxPostgresConnector,
    sqlx::{self, PgPool, postgres::PgPoolOptions},
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use stack::Namespace;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(60);

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        outbox::migrations()
    }
}

/// A schema with this crate's tables, and a corner of RabbitMQ.
pub struct World {
    pub pool: PgPool,
    pub namespace: Namespace,
    pub shutdown: CancellationToken,
}

impl World {
    pub async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let pool = PgPoolOptions::new().max_connections(12).connect(&namespace.database_url).await?;
        Migrator::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone()), None).await?;
        Ok(Self { pool, namespace, shutdown: CancellationToken::new() })
    }

    /// RabbitMQ at `url` for everything.
    pub fn broker_config(&self, url: &str) -> BrokerConfig {
        BrokerConfig {
            service: "outbox-test".into(),
            amqp_url: Some(url.into()),
            sqs: None,
            prefix: self.namespace.queue_prefix.clone(),
            transports: HashMap::from([(CATALOG_IMPORTS.name.into(), Transport::Amqp)]),
        }
    }

    /// A broker at `url` on which everything rides on RabbitMQ, with its topology declared.
    pub async fn broker_at(&self, url: &str) -> Result<Broker> {
        let broker = Broker::new(self.broker_config(url))?;
        broker.declare(QUEUES).await?;
        Ok(broker)
    }

    pub async fn broker(&self) -> Result<Broker> {
        self.broker_at(&self.namespace.servers().amqp_url).await
    }

    /// Writes a nudge for a task into the outbox and commits.
    pub async fn publish(&self, task: &str) -> Result<Uuid> {
        let mut transaction = self.pool.begin().await?;
        let id = outbox::publish(&mut transaction, "test", &nudge(task), Meta::about(task)).await?;
        transaction.commit().await?;
        Ok(id)
    }

    pub async fn count(&self, query: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }

    /// Waits until a counting query gives `expected`.
    pub async fn until_count(&self, query: &'static str, expected: i64) -> Result<()> {
        stack::wait::until(&format!("{query} = {expected}"), PATIENCE, || async {
            self.count(query).await.is_ok_and(|count| count == expected)
        })
        .await
    }

    /// Consumes nudges from RabbitMQ in the background until the world ends.
    pub fn consume(&self, broker: &Broker, handler: Recorder) {
        let policy = Policy {
            max_attempts: 1,
            backoff: Backoff { steps: vec![Duration::from_millis(50)] },
            kill_switch_after: 1_000_000,
            ..Policy::default()
        };
        let consumer =
            Consumer::new(broker, &CATALOG_IMPORTS).policy(policy).handle::<ProcessImport>(handler);
        tokio::spawn(consumer.run(self.shutdown.clone()));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub fn nudge(task: &str) -> ProcessImport {
    ProcessImport { task_id: task.into() }
}

/// Notes every delivery; fails those whose task begins with `bad`.
#[derive(Clone, Default)]
pub struct Recorder {
    deliveries: Arc<Mutex<Vec<(Uuid, String)>>>,
}

impl Recorder {
    /// The tasks delivered, in order, repetitions included.
    pub fn tasks(&self) -> Vec<String> {
        let deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        deliveries.iter().map(|(_, task)| task.clone()).collect()
    }

    pub fn ids(&self) -> Vec<Uuid> {
        let deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        deliveries.iter().map(|(id, _)| *id).collect()
    }

    pub async fn until_delivered(&self, count: usize) -> Result<()> {
        stack::wait::until(&format!("{count} deliveries"), PATIENCE, || async { self.ids().len() >= count })
            .await
    }
}

#[async_trait]
impl Handler<ProcessImport> for Recorder {
    async fn handle(&self, message: ProcessImport, context: &Context) -> Result<(), JobError> {
        let task = message.task_id;
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).push((context.id, task.clone()));
        if task.starts_with("bad") {
            return Err(JobError::fail(anyhow::anyhow!("task {task} can never work")));
        }
        Ok(())
    }
}
