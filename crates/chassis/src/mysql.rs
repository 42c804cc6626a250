//! MySQL or MariaDB, where a service writes into a database that is not Lote's own.

use std::{str::FromStr as _, time::Duration};

use sea_orm::sqlx::{
    ConnectOptions as _, Executor as _, MySqlPool,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use crate::config::Secret;

/// What every session is set to. Strict, so that a value which does not fit is refused and not cut; UTC, so that
/// a time means the same to everybody. The comment is for MariaDB alone, which can end a transaction whose process
/// hangs: it must not hold its row locks for ever.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00' /*M!100301 , idle_transaction_timeout = 60 */";

/// A look-up of keys that are not there takes no gap locks, which two writers would wait for in a circle.
const ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// A pool of connections to `url`, which may be spelt `mysql://` or, as SQLAlchemy does, `mysql+pymysql://`.
/// Connects when first used.
///
/// # Errors
/// A URL that can't be understood.
pub fn pool(url: &Secret<String>, max_connections: u32, acquire: Duration) -> anyhow::Result<MySqlPool> {
    crate::tls::install();
    let plain = plain(url.expose());
    let options = MySqlConnectOptions::from_str(&plain)
        // The parser's message may quote the URL, and with it the password.
        .map_err(|_| anyhow::anyhow!("the URL is not a MySQL URL"))?
        .charset("utf8mb4")
        .disable_statement_logging();
    Ok(MySqlPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(acquire)
        .idle_timeout(Duration::from_secs(300))
        .max_lifetime(Duration::from_secs(1800))
        .test_before_acquire(true)
        .after_connect(|connection, _| {
            Box::pin(async move {
                for statement in [SESSION, ISOLATION] {
                    connection.execute(statement).await?;
                }
                Ok(())
            })
        })
        .connect_lazy_with(options))
}

/// The URL as sqlx knows it.
fn plain(url: &str) -> String {
    url.strip_prefix("mysql+pymysql://").map_or_else(|| url.to_owned(), |rest| format!("mysql://{rest}"))
}

/// What trying later may cure: too many connections (1040, of one user 1203), a disk that is full (1021), a server that stops
/// (1053) or takes no writes (1290), a lock that was not had in time (1205), a deadlock (1213), a user who has used up
/// what an hour allows (1226), a statement that an operator (1317) or a timer ended (MariaDB's 1969, MySQL's 3024), or the
/// connection with it (1927, 4031), and one that was lost (2006, 2013).
/// <https://mariadb.com/docs/server/reference/error-codes/mariadb-error-code-reference>,
/// <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>
const LATER: [u16; 15] =
    [1021, 1040, 1053, 1203, 1205, 1213, 1226, 1290, 1317, 1927, 1969, 2006, 2013, 3024, 4031];

/// Whether an error says that trying later makes sense: the network, the pool, or what the server says.
pub fn unavailable(error: &sea_orm::sqlx::Error) -> bool {
    use sea_orm::sqlx::{Error, mysql::MySqlDatabaseError};
    match error {
        Error::Io(_) | Error::Tls(_) | Error::PoolTimedOut | Error::PoolClosed | Error::WorkerCrashed => true,
        Error::Database(error) => error
            .try_downcast_ref::<MySqlDatabaseError>()
            .is_some_and(|error| LATER.contains(&error.number())),
        _ => false,
    }
}
