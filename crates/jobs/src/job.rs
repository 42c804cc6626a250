use chrono::{DateTime, Utc};
use sea_orm::{
    DeriveActiveEnum, EnumIter,
    sqlx::{self, Row as _, postgres::PgRow},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
#[serde(rename_all = "lowercase")]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum State {
    /// Waits for a worker.
    Pending,
    /// A worker holds it, or held it and died.
    Running,
    /// Done.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
}

impl State {
    /// The name in the table and in APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen to it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    fn parse(name: &str) -> sqlx::Result<Self> {
        Ok(match name {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            other => return Err(sqlx::Error::Decode(format!("unknown job state {other:?}").into())),
        })
    }
}

/// How far a job has come, in its own units (rows, contacts, pages). `processed = successful + failed`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All there are, once that is known.
    pub total: Option<i64>,
    /// Those that have their outcome.
    pub processed: i64,
    /// Those of them that went well.
    pub successful: i64,
    /// Those of them that did not.
    pub failed: i64,
}

/// How near a job is to its end, in numbers that never fall while its work gets nearer to it.
///
/// A job has its attempts again only where its checkpoint comes with a position above the highest that any
/// earlier one had, so the position must say what is done, not what was tried: an attempt that repeats what
/// an earlier one did must tell the same position again. Later phases are higher whatever the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The part of the work, in the order in which the parts are done.
    pub phase: u32,
    /// How far it is in its phase, in any unit: rows, batches, bytes. 0 where a phase has no steps.
    pub step: i64,
}

impl Position {
    /// A step of a phase.
    pub const fn new(phase: u32, step: i64) -> Self {
        Self { phase, step }
    }

    /// As it stands in the row, under the key `reached` of the checkpoint. PostgreSQL compares arrays of one length number by number.
    pub(crate) fn to_value(self) -> Value {
        json!([self.phase, self.step])
    }

    /// Takes it out of a checkpoint, which is left as the work wrote it.
    fn take(checkpoint: &mut Value) -> Option<Self> {
        let reached = checkpoint.as_object_mut()?.remove("reached")?;
        Some(Self { phase: u32::try_from(reached.get(0)?.as_u64()?).ok()?, step: reached.get(1)?.as_i64()? })
    }
}

/// A job's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Chosen by who creates it.
    pub id: Uuid,
    /// What kind of work: a [`crate::JobKind`]'s name.
    pub kind: String,
    /// Where it stands.
    pub state: State,
    /// The claim that holds it: whose it is, and a token that no other claim has.
    pub owner: Option<String>,
    /// Raised by every claim. With `owner` it fences a holder that lost its lease.
    pub epoch: i64,
    /// Until when the holder holds it, by the database's clock.
    pub lease_until: Option<DateTime<Utc>>,
    /// Claims since its checkpoint last advanced, the present one included.
    pub attempts: i32,
    /// How many of them it may have.
    pub max_attempts: i32,
    /// When it may be claimed.
    pub next_run_at: DateTime<Utc>,
    /// Where its work goes on, as its worker wrote it.
    pub checkpoint: Option<Value>,
    /// The highest position that came with a checkpoint.
    pub reached: Option<Position>,
    /// How far it has come.
    pub progress: Progress,
    /// What to do, as its creator wrote it.
    pub params: Value,
    /// What came of it, once completed.
    pub result: Option<Value>,
    /// The last error: of a deferral, or of its end.
    pub error: Option<String>,
    /// When somebody asked for its end.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// Who created it: a token's subject.
    pub user: Option<String>,
    /// The client's `Idempotency-Key`, unique with its user.
    pub idempotency_key: Option<String>,
    /// Raised by every change that a reader can see.
    pub version: i64,
    /// W3C trace context of the request that created it.
    pub traceparent: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was first claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Job {
    /// Where its work goes on, by its last checkpoint; none: at the beginning.
    ///
    /// # Errors
    /// The checkpoint is no `T`.
    pub fn checkpoint_as<T: DeserializeOwned>(&self) -> serde_json::Result<Option<T>> {
        self.checkpoint.clone().map(serde_json::from_value).transpose()
    }

    pub(crate) fn read(row: &PgRow) -> sqlx::Result<Self> {
        let mut checkpoint: Option<Value> = row.try_get("checkpoint")?;
        let reached = checkpoint.as_mut().and_then(Position::take);
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            state: State::parse(row.try_get("state")?)?,
            owner: row.try_get("owner")?,
            epoch: row.try_get("epoch")?,
            lease_until: row.try_get("lease_until")?,
            attempts: row.try_get("attempts")?,
            max_attempts: row.try_get("max_attempts")?,
            next_run_at: row.try_get("next_run_at")?,
            checkpoint,
            reached,
            progress: Progress {
                total: row.try_get("total")?,
                processed: row.try_get("processed")?,
                successful: row.try_get("successful")?,
                failed: row.try_get("failed")?,
            },
            params: row.try_get("params")?,
            result: row.try_get("result")?,
            error: row.try_get("error")?,
            cancel_requested_at: row.try_get("cancel_requested_at")?,
            user: row.try_get("created_by")?,
            idempotency_key: row.try_get("idempotency_key")?,
            version: row.try_get("version")?,
            traceparent: row.try_get("traceparent")?,
            created_at: row.try_get("created_at")?,
            started_at: row.try_get("started_at")?,
            updated_at: row.try_get("updated_at")?,
            finished_at: row.try_get("finished_at")?,
        })
    }
}
