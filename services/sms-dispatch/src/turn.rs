//! Who writes many contacts takes turns with all others who do; who asks a provider about many, too.

use std::time::Duration;

use jobs::JobRun;
use messaging::JobError;
use sea_orm::sqlx::{self, PgPool, Postgres, pool::PoolConnection};

/// The turns of imports, rollbacks and restores.
pub const IMPORTS: &str = "contact imports";
/// The turns of validations: an account's limit is one, however many workers there are.
pub const VALIDATIONS: &str = "validations";
/// Who feeds campaigns.
pub const FEEDER: &str = "feeder";

/// The right to be the one that works. It ends with its connection, however the process ends.
pub struct Turn {
    conn: PoolConnection<Postgres>,
}

impl Turn {
    /// Waits for it.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn take(pool: &PgPool, of: &str, run: &JobRun) -> Result<Self, JobError> {
        loop {
            if let Some(turn) = Self::try_take(pool, of).await.map_err(JobError::retry)? {
                return Ok(turn);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            run.proceed()?;
        }
    }

    /// Takes it, unless somebody else has it.
    pub async fn try_take(pool: &PgPool, of: &str) -> sqlx::Result<Option<Self>> {
        let mut conn = pool.acquire().await?;
        conn.close_on_drop();
        let mine: bool =
            sqlx::query_scalar("select pg_try_advisory_lock(hashtext(current_schema() || '.' || $1))")
                .bind(of)
                .fetch_one(&mut *conn)
                .await?;
        Ok(mine.then_some(Self { conn }))
    }

    /// Asks the connection that the turn lives with: where it is gone, so is the turn.
    pub async fn holds(&mut self) -> sqlx::Result<()> {
        sqlx::query("select 1").execute(&mut *self.conn).await.map(drop)
    }
}
