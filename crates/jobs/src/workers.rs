//! Who is at work: a row for each live worker process, for an operator to see.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::RngExt as _;
use sea_orm::sqlx::{self, PgPool, Row as _, types::Json};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{Activities, Activity, Error};

/// How often a worker says that it lives.
const INTERVAL: Duration = Duration::from_secs(5);
/// A worker that has said nothing for so long is not listed any more.
const SILENT: Duration = Duration::from_secs(60);

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Worker {
    /// Of this process: new with every start.
    pub id: Uuid,
    /// The service it belongs to.
    pub service: String,
    /// The machine's name.
    pub host: String,
    /// The process's id there.
    pub pid: i32,
    /// The version it runs.
    pub version: String,
    /// The logical names of the queues it consumes.
    pub queues: Vec<String>,
    /// What it does right now.
    pub working: Vec<Activity>,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it was last heard of.
    pub seen_at: DateTime<Utc>,
}

/// Announces this process as a worker while it lives.
pub struct Announcer {
    pool: PgPool,
    id: Uuid,
    service: String,
    host: String,
    version: String,
    queues: Vec<String>,
    activities: Activities,
}

impl Announcer {
    /// A worker of `service` at `version` that consumes `queues` and notes what it does in `activities`
    /// (the ones of its [`crate::Runner`]).
    pub fn new(
        pool: PgPool,
        service: &str,
        version: &str,
        queues: &[&contracts::Queue],
        activities: Activities,
    ) -> Self {
        Self {
            pool,
            id: Uuid::now_v7(),
            service: service.to_owned(),
            host: host(),
            version: version.to_owned(),
            queues: queues.iter().map(|queue| queue.name.to_owned()).collect(),
            activities,
        }
    }

    /// Announces until `shutdown` is cancelled, then takes its row away. Removes what workers that died
    /// left behind.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut away = false;
        loop {
            match self.announce().await {
                Ok(()) => away = false,
                Err(error) if !away => {
                    away = true;
                    tracing::debug!(%error, "worker not announced");
                }
                Err(_) => {}
            }
            let pause = INTERVAL.mul_f64(rand::rng().random_range(0.8..1.2));
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
        }
        let farewell = sqlx::query("DELETE FROM workers WHERE id = $1").bind(self.id).execute(&self.pool);
        if !matches!(tokio::time::timeout(Duration::from_secs(1), farewell).await, Ok(Ok(_))) {
            tracing::debug!("the worker's row stays until it is pruned");
        }
    }

    async fn announce(&self) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO workers (id, service, host, pid, version, queues, working)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (id) DO UPDATE SET working = excluded.working, seen_at = now()",
        )
        .bind(self.id)
        .bind(&self.service)
        .bind(&self.host)
        .bind(i32::try_from(std::process::id()).unwrap_or(0))
        .bind(&self.version)
        .bind(&self.queues)
        .bind(Json(self.activities.list()))
        .execute(&self.pool)
        .await?;
        sqlx::query("DELETE FROM workers WHERE seen_at < now() - interval '1 hour'")
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// The workers that were heard of within the last minute, by service and host.
///
/// # Errors
/// The database.
pub async fn list(pool: &PgPool) -> Result<Vec<Worker>, Error> {
    let rows = sqlx::query(
        "SELECT * FROM workers WHERE seen_at > now() - make_interval(secs => $1)
         ORDER BY service, host, started_at",
    )
    .bind(SILENT.as_secs_f64())
    .fetch_all(pool)
    .await?;
    let workers = rows.iter().map(|row| {
        Ok(Worker {
            id: row.try_get("id")?,
            service: row.try_get("service")?,
            host: row.try_get("host")?,
            pid: row.try_get("pid")?,
            version: row.try_get("version")?,
            queues: row.try_get("queues")?,
            working: row.try_get::<Json<Vec<Activity>>, _>("working")?.0,
            started_at: row.try_get("started_at")?,
            seen_at: row.try_get("seen_at")?,
        })
    });
    Ok(workers.collect::<sqlx::Result<_>>()?)
}

/// This machine's name.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "unknown".into())
}
