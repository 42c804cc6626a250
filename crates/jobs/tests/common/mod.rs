//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use anyhow::{Context as _, Result};
use jobs::{Claim, Creation, Job, Lease, NewJob, claim, create};
use sea_orm::{
    SqlxPostgresConnector,
    sqlx::{self, PgPool, postgres::PgPoolOptions},
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use serde_json::json;
use stack::Namespace;
use uuid::Uuid;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const LEASE: Duration = Duration::from_secs(60);
pub const KIND: &str = "catalog.imports";

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        outbox::migrations().into_iter().chain(jobs::migrations()).collect()
    }
}

/// A schema with the tables of outbox and jobs.
pub struct World {
    pub pool: PgPool,
    pub namespace: Namespace,
}

impl World {
    pub async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let pool = PgPoolOptions::new().max_connections(12).connect(&namespace.database_url).await?;
        Migrator::up(&SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone()), None).await?;
        Ok(Self { pool, namespace })
    }

    /// A pending job that may have `max_attempts`.
    pub async fn job(&self, max_attempts: i32) -> Result<Uuid> {
        let mut conn = self.pool.acquire().await?;
        match create(&mut conn, NewJob { max_attempts, ..new_job() }).await? {
            Creation::Created(job) => Ok(job.id),
            Creation::Existing(job) => anyhow::bail!("job {} has no key and yet exists", job.id),
        }
    }

    pub async fn get(&self, id: Uuid) -> Result<Job> {
        let mut conn = self.pool.acquire().await?;
        jobs::get(&mut conn, id).await?.context("no such job")
    }

    pub async fn claim(&self, id: Uuid, owner: &str) -> Result<Claim> {
        let mut conn = self.pool.acquire().await?;
        Ok(claim(&mut conn, id, owner, LEASE).await?)
    }

    /// A claim that must succeed.
    pub async fn hold(&self, id: Uuid, owner: &str) -> Result<(Job, Lease)> {
        match self.claim(id, owner).await? {
            Claim::Claimed(job, lease) => Ok((job, lease)),
            other => anyhow::bail!("{owner} should hold {id}, but: {other:?}"),
        }
    }

    /// As if the holder had been silent for longer than its lease.
    pub async fn lapse(&self, id: Uuid) -> Result<()> {
        self.run(
            "UPDATE jobs SET lease_until = now() - interval '1 s' WHERE id = $1 AND state = 'running'",
            id,
        )
        .await
    }

    /// As if the time of its deferral had passed.
    pub async fn make_due(&self, id: Uuid) -> Result<()> {
        self.run("UPDATE jobs SET next_run_at = now() - interval '1 s' WHERE id = $1", id).await
    }

    pub async fn run(&self, statement: &'static str, id: Uuid) -> Result<()> {
        sqlx::query(statement).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// As if the database had failed over to a replica that did not have the present claim yet.
    pub async fn fail_over(&self, id: Uuid) -> Result<()> {
        let statement =
            "UPDATE jobs SET epoch = epoch - 1, state = 'pending', owner = NULL, lease_until = NULL
             WHERE id = $1 AND state = 'running'";
        self.run(statement, id).await
    }

    pub async fn count(&self, query: &'static str) -> Result<i64> {
        Ok(sqlx::query_scalar(query).fetch_one(&self.pool).await?)
    }
}

pub fn new_job() -> NewJob<'static> {
    NewJob {
        id: Uuid::now_v7(),
        kind: KIND,
        params: json!({"file": "a.xlsx"}),
        user: None,
        idempotency_key: None,
        request_hash: None,
        max_attempts: 3,
    }
}
