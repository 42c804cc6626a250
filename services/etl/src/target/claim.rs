//! The right to write a stream's rows, and the one transaction that does.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use failpoints::Point;
use jobs::JobRun;
use messaging::JobError;
use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait as _, sqlx};
use serde_json::Value;

use super::{
    Lane, Merged, Quarantined, Sql, Target, is_duplicate, is_transient, lane, merge_all, quarantine,
};
use crate::domain::table::{Row, Table};

/// How often a batch is repeated that met a deadlock or a row which somebody inserted at this moment.
const AGAIN: u32 = 5;

/// Why a page was not committed. Nothing of it is there.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another claim has the stream: this worker was taken for dead. It must stop.
    #[error("another worker has the stream {0} by now")]
    Stale(String),
    #[error(transparent)]
    Database(#[from] DbErr),
}

impl From<CommitError> for JobError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Stale(_) => Self::Release,
            CommitError::Database(error) if is_transient(&error) || is_duplicate(&error) => {
                Self::retry(error)
            }
            CommitError::Database(error) => {
                Self::fail(anyhow::Error::from(error).context("the sales database"))
            }
        }
    }
}

/// What one transaction writes.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows by table.
    pub rows: Vec<(&'static Table, Vec<Row>)>,
    /// Keys that the scan has met, for [`super::unmet`].
    pub met: Vec<String>,
    /// Records that could not be read.
    pub bad: Vec<Quarantined>,
    /// Rows that the source does not have any more.
    pub deleted: Vec<Gone>,
    /// Rows that belong to others, and of which all that are there are known.
    pub families: Vec<Family>,
    /// Whether what the scan has met is forgotten: it is over.
    pub forget: bool,
}

impl Page {
    /// Adds what another one writes: of a key that comes again, the newest version.
    pub fn join(&mut self, other: Self) {
        for (table, rows) in other.rows {
            match self.rows.iter_mut().find(|(known, _)| known.name == table.name) {
                Some((_, known)) => known.extend(rows),
                None => self.rows.push((table, rows)),
            }
        }
        self.met.extend(other.met);
        self.bad.extend(other.bad);
        self.deleted.extend(other.deleted);
        self.families.extend(other.families);
        self.forget |= other.forget;
    }

    /// How much it is to write, in rows.
    pub fn size(&self) -> usize {
        let rows: usize = self.rows.iter().map(|(_, rows)| rows.len()).sum();
        rows + self.met.len() + self.bad.len() + self.deleted.len() + self.families.len()
    }
}

/// Rows that the source does not have any more.
#[derive(Clone, Debug)]
pub struct Gone {
    pub table: &'static Table,
    pub keys: Vec<Vec<sea_orm::Value>>,
    /// Of the answer that says so: what was asked for before does not bring them back.
    pub version: i64,
}

/// The rows of one parent, as the source has them: those that the table has beside them are gone.
#[derive(Clone, Debug)]
pub struct Family {
    /// Has a key of one number.
    pub table: &'static Table,
    /// The column that names the parent.
    pub column: &'static str,
    /// The table of the parent, whose key is a number too. Both are written together: of a parent that was not there,
    /// no rows are.
    pub of: &'static Table,
    pub parent: i64,
    /// The keys of the rows that there are.
    pub keep: Vec<i64>,
    /// Of the answer that says so: what was written after it stays.
    pub version: i64,
}

/// A stream that this run may write.
#[derive(Clone, Debug)]
pub struct Claim {
    target: Target,
    pub lane: String,
    epoch: i64,
    pub run: String,
}

impl Claim {
    /// Takes the lane for a run, by writing a higher epoch than any before into its database: from then on, whoever
    /// had it can commit nothing there. Gives the lane as it was.
    ///
    /// An epoch is drawn from the service's own schema, and the job's lease is asked for after that: a worker that
    /// lost its lease draws no epoch above that of the one who has it. Where the schema was made again and the
    /// target was not, the sequence catches up.
    ///
    /// # Errors
    /// What the work must return at once.
    pub async fn take(
        target: &Target,
        pool: &sqlx::PgPool,
        run: &JobRun,
        lane_name: &str,
    ) -> Result<(Self, Lane), JobError> {
        let mut conn = pool.acquire().await.map_err(JobError::retry)?;
        let now = Utc::now();
        // There is a row to compare with, whoever makes it.
        let made = Sql::new("INSERT INTO lote_streams (stream, epoca, actualizado_en) VALUES (?, 0, ?)");
        if lane(&target.db, lane_name).await.map_err(job_error)?.is_none()
            && let Err(error) = made.bind(lane_name).bind(now).run(&target.db).await
            && !is_duplicate(&error)
        {
            return Err(job_error(error));
        }
        loop {
            let epoch: i64 = sqlx::query_scalar("SELECT nextval('stream_epochs')")
                .fetch_one(&mut *conn)
                .await
                .map_err(JobError::retry)?;
            run.confirm(&mut conn).await?;
            let take = Sql::new(
                "UPDATE lote_streams SET epoca = ?, actualizado_en = ? WHERE stream = ? AND epoca < ?",
            );
            let taken = take.bind(epoch).bind(Utc::now()).bind(lane_name).bind(epoch).run(&target.db).await;
            let known = lane(&target.db, lane_name)
                .await
                .map_err(job_error)?
                .ok_or_else(|| JobError::fail(anyhow::anyhow!("lote_streams lost the row of {lane_name}")))?;
            if taken.map_err(job_error)? > 0 {
                let claim = Self {
                    target: target.clone(),
                    lane: lane_name.to_owned(),
                    epoch,
                    run: run.job.id.to_string(),
                };
                return Ok((claim, known));
            }
            sqlx::query(
                "SELECT setval('stream_epochs', greatest($1, (SELECT last_value FROM stream_epochs)))",
            )
            .bind(known.epoch)
            .execute(&mut *conn)
            .await
            .map_err(JobError::retry)?;
        }
    }

    /// Writes a page in one transaction: its rows, the keys that it met, its bad records, and what `state` makes of
    /// the counts (where the run goes on). `watermark` moves only where it is given.
    ///
    /// # Errors
    /// As [`CommitError`] says; nothing is written.
    pub async fn commit(
        &self,
        page: &Page,
        watermark: Option<DateTime<Utc>>,
        state: impl Fn(&Merged, u64) -> Value,
    ) -> Result<(Merged, u64), CommitError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(page, watermark, &state, tries == 1).await {
                Err(CommitError::Database(error))
                    if tries < AGAIN && (is_duplicate(&error) || is_conflict(&error)) =>
                {
                    tracing::debug!(lane = self.lane, %error, "page repeated");
                    tokio::time::sleep(Duration::from_millis(20 * u64::from(tries))).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(
        &self,
        page: &Page,
        watermark: Option<DateTime<Utc>>,
        state: &impl Fn(&Merged, u64) -> Value,
        trust: bool,
    ) -> Result<(Merged, u64), CommitError> {
        let transaction = self.target.db.begin().await?;
        let written = self.write(&transaction, page, watermark, state, trust).await;
        match written {
            Ok(counts) => {
                failpoints::hit(Point::BatchWritten);
                transaction.commit().await?;
                failpoints::hit(Point::BatchCommitted);
                Ok(counts)
            }
            Err(error) => {
                if let Err(error) = transaction.rollback().await {
                    tracing::debug!(%error, "the transaction did not roll back in good order");
                }
                Err(error)
            }
        }
    }

    async fn write(
        &self,
        conn: &DatabaseTransaction,
        page: &Page,
        watermark: Option<DateTime<Utc>>,
        state: &impl Fn(&Merged, u64) -> Value,
        trust: bool,
    ) -> Result<(Merged, u64), CommitError> {
        self.fence(conn).await?;
        let now = Utc::now();
        let (mut merged, mut deleted) = (Merged::default(), 0);
        let by_table = merge_all(conn, &page.rows, &page.families, &self.run, now, trust).await?;
        for counts in by_table.values() {
            merged.inserted += counts.inserted;
            merged.updated += counts.updated;
            merged.same += counts.same;
            merged.older += counts.older;
        }
        for gone in &page.deleted {
            deleted += super::delete_by_key(conn, gone, &self.run, now).await?;
        }
        let mut asked: HashMap<i64, u32> = HashMap::new();
        for family in &page.families {
            *asked.entry(family.parent).or_default() += 1;
        }
        // A parent that has just come, and once, has no rows but those that came with it.
        let has_others = |family: &&Family| {
            let parents = by_table.get(family.of.name);
            let is_new = parents.is_some_and(|parents| parents.new.contains(&family.parent.to_string()));
            !is_new || asked.get(&family.parent).is_some_and(|times| *times > 1)
        };
        let families: Vec<Family> = page.families.iter().filter(has_others).cloned().collect();
        deleted += super::sweep::delete_strangers(conn, &families, &self.run, now).await?;
        if page.forget {
            super::sweep::forget(conn, &self.lane, None).await?;
        } else {
            super::sweep::remember(conn, &self.lane, &self.run, &page.met).await?;
        }
        quarantine::keep(conn, &self.run, &page.bad, now).await?;
        let state = state(&merged, deleted).to_string();
        let set = "UPDATE lote_streams SET corrida = ?, estado = ?, actualizado_en = ?, marca = coalesce(?, marca) WHERE stream = ?";
        let set = Sql::new(set).bind(self.run.as_str()).bind(state).bind(now).bind(watermark);
        set.bind(self.lane.as_str()).run(conn).await?;
        Ok((merged, deleted))
    }

    /// First in a transaction, and locked until its end: who claims the stream meanwhile waits for that, and who has claimed
    /// it before has written another epoch here.
    async fn fence(&self, conn: &DatabaseTransaction) -> Result<(), CommitError> {
        let row =
            Sql::new("SELECT epoca FROM lote_streams WHERE stream = ? FOR UPDATE").bind(self.lane.as_str());
        let epoch: Option<i64> = row.one(conn).await?.map(|row| row.try_get("", "epoca")).transpose()?;
        if epoch == Some(self.epoch) { Ok(()) } else { Err(CommitError::Stale(self.lane.clone())) }
    }

    /// Forgets what runs of the lane before this one have met.
    ///
    /// # Errors
    /// As [`CommitError`] says: a worker that slept since it took the lane must not forget what a later run has met.
    pub async fn forget_others(&self) -> Result<(), CommitError> {
        let transaction = self.target.db.begin().await?;
        self.fence(&transaction).await?;
        super::sweep::forget(&transaction, &self.lane, Some(&self.run)).await?;
        Ok(transaction.commit().await?)
    }

    /// The database.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// A deadlock, or a lock that was not had in time: the batch is repeated, its rows in the order of their keys.
fn is_conflict(error: &DbErr) -> bool {
    let code =
        super::sqlx_error(error).and_then(sqlx::Error::as_database_error).and_then(|error| error.code());
    // MySQL's 1213 has SQLSTATE 40001, 1205 HY000.
    code.is_some_and(|code| code.starts_with("40") || code == "55P03")
}

fn job_error(error: DbErr) -> JobError {
    CommitError::Database(error).into()
}
