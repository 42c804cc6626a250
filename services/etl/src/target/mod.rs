//! The database that a stream's rows are for: MariaDB or MySQL, or PostgreSQL. What a run writes, what it counts and
//! where it goes on commit there in one transaction, as no transaction spans two databases.

mod claim;
mod merge;
mod migrate;
mod quarantine;
mod sql;
mod state;
mod sweep;

use std::time::Duration;

use anyhow::Context as _;
use chassis::{
    config::{DatabaseSettings, Secret},
    db, mysql,
};
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, RuntimeErr, SqlxMySqlConnector, sqlx,
};
use tokio_util::sync::CancellationToken;

pub use claim::{Claim, CommitError, Family, Gone, Page};
pub use merge::{Merged, merge, merge_all};
pub use quarantine::{
    KeptRecord, Quarantined, list as quarantined, named as quarantined_named, purge as purge_quarantine,
};
pub use sql::Sql;
pub use state::{Lane, lane, lanes, reset};
pub use sweep::{count_live, count_met, delete_by_key, delete_strangers, highest, present, unmet};

/// Connections of one process.
const CONNECTIONS: u32 = 12;
const ACQUIRE: Duration = Duration::from_secs(5);

/// A database that is written to. Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct Target {
    pub db: DatabaseConnection,
}

impl Target {
    /// A pool, which connects when it is first used. `mysql://`, `mysql+pymysql://` or `postgres://`.
    ///
    /// # Errors
    /// A URL that can't be understood.
    pub fn connect(url: &Secret<String>) -> anyhow::Result<Self> {
        if url.expose().starts_with("mysql") {
            let pool = mysql::pool(url, CONNECTIONS, ACQUIRE).context("SALES_DATABASE_URL")?;
            return Ok(Self { db: SqlxMySqlConnector::from_sqlx_mysql_pool(pool) });
        }
        let settings = DatabaseSettings {
            max_connections: CONNECTIONS,
            acquire_timeout: ACQUIRE,
            ..DatabaseSettings::at(url.expose().clone())
        };
        Ok(Self { db: db::lazy(&settings, crate::SERVICE).context("SALES_DATABASE_URL")?.orm })
    }

    /// Which of the two it is.
    pub fn backend(&self) -> DbBackend {
        self.db.get_database_backend()
    }

    /// Waits for a server that is not there yet.
    ///
    /// # Errors
    /// Refused credentials, which waiting does not cure; shutdown.
    pub async fn wait(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.db.execute_unprepared("SELECT 1").await {
                Ok(_) => return Ok(()),
                Err(error) if is_transient(&error) => {
                    tracing::warn!(%error, "waiting for the sales database");
                }
                Err(error) => return Err(error).context("the sales database refuses us"),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                anyhow::bail!("shut down while waiting for the sales database");
            }
            pause = (pause * 2).min(Duration::from_secs(3));
        }
    }
}

/// Whether trying again makes sense: the server, the network, or a neighbour is why.
pub fn is_transient(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_)) {
        return true;
    }
    sqlx_error(error).is_some_and(|error| db::unavailable(error) || mysql::unavailable(error))
}

/// Whether a row was there already under its key: somebody wrote it between our look and our write.
fn is_duplicate(error: &DbErr) -> bool {
    sqlx_error(error)
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

fn sqlx_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}
