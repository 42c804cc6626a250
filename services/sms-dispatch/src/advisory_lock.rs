//! Advisory locks that outlive transactions: one process at a time writes many contacts, feeds campaigns or asks providers.
//! Within a transaction it is `chassis::lock`.

use std::time::Duration;

use jobs::JobRun;
use messaging::JobError;
use sea_orm::sqlx::{self, PgPool, Postgres, pool::PoolConnection};

/// Imports, rollbacks and restores.
pub const IMPORTS: &str = "contact imports";
/// Validations: an account's limit is one, however many workers there are.
pub const VALIDATIONS: &str = "validations";
/// Who feeds campaigns.
pub const FEEDER: &str = "feeder";
/// Who asks providers' records.
pub const RECONCILER: &str = "reconciler";
/// Who asks providers about our account.
pub const ACCOUNTS: &str = "sms accounts";
/// Who takes days away from the ledger.
pub const MESSAGE_DAYS: &str = "old message days";

/// How long an answer of the connection that a lock lives with may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A lock of PostgreSQL that a session holds: it ends with its connection, however the process ends.
pub struct AdvisoryLock {
    conn: PoolConnection<Postgres>,
    of: String,
}

impl AdvisoryLock {
    /// Waits for it.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn take(pool: &PgPool, of: &str, run: &JobRun) -> Result<Self, JobError> {
        loop {
            if let Some(lock) = Self::try_take(pool, of).await.map_err(JobError::retry)? {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            run.proceed()?;
        }
    }

    /// Takes it, unless somebody else has it.
    pub async fn try_take(pool: &PgPool, of: &str) -> sqlx::Result<Option<Self>> {
        let mut conn = pool.acquire().await?;
        conn.close_on_drop();
        let asked = "select pg_try_advisory_lock(hashtext(current_schema() || '.' || $1))";
        let mine = in_time(sqlx::query_scalar::<_, bool>(asked).bind(of).fetch_one(&mut *conn)).await?;
        Ok(mine.then(|| Self { conn, of: of.to_owned() }))
    }

    /// As [`Self::try_take`], but the server ends the lock where nobody asks [`Self::holds`] for so long: a process that is
    /// stopped, or whose machine is gone without a word, does not keep it for ever.
    pub async fn try_take_lapsing(pool: &PgPool, of: &str, after: Duration) -> sqlx::Result<Option<Self>> {
        let Some(mut lock) = Self::try_take(pool, of).await? else { return Ok(None) };
        let set = sqlx::query("select set_config('idle_session_timeout', $1, false)");
        in_time(set.bind(after.as_millis().to_string()).execute(&mut *lock.conn)).await?;
        Ok(Some(lock))
    }

    /// Ends it at once. A lock that is dropped ends when the server has noticed.
    pub async fn end(mut self) -> sqlx::Result<()> {
        let unlocked = sqlx::query("select pg_advisory_unlock(hashtext(current_schema() || '.' || $1))");
        in_time(unlocked.bind(&self.of).execute(&mut *self.conn)).await.map(drop)
    }

    /// Asks the connection that the lock lives with: where it is gone, so is the lock.
    pub async fn holds(&mut self) -> sqlx::Result<()> {
        in_time(sqlx::query("select 1").execute(&mut *self.conn)).await.map(drop)
    }
}

/// An answer of the connection that a lock lives with: a server that vanished does not say so. The connection is closed then.
async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| sqlx::Error::PoolTimedOut)?
}
