//! The status of an import as its clients know it: the same document from Redis while the import
//! lives, and from PostgreSQL for ever.

use ::jobs::State as JobState;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::ImportResult,
    storage::imports::{Import, Kind},
};

/// What polling clients wait for: they stop at `completed` or `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Processing,
    Completed,
    Failed,
}

/// What a task does. Uploads of the usual kind don't say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tipo {
    /// Only tells what the file would change.
    Simulacion,
    /// Takes an import back.
    Reversion,
}

/// The status of an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    pub task_id: Uuid,
    pub status: State,
    pub filename: String,
    pub proveedor_id: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    pub updated_at: String,
    pub progress: Progress,
    /// Of an import that has ended, also one that failed half-way.
    pub result: Option<ImportResult>,
    /// Of a failed one: why, and what to do.
    pub error: Option<String>,
    /// Whether it failed because somebody cancelled it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancelada: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tipo: Option<Tipo>,
    /// The dry run that this task carries out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aplica: Option<Uuid>,
    /// The import of whose rejected rows this one reads the corrections.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub corrige: Option<Uuid>,
    /// The import that this task takes back.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revierte: Option<Uuid>,
}

/// How far an import is, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// All rows; an estimate until the last row is read.
    pub total: i64,
    pub processed: i64,
    pub successful: i64,
    pub failed: i64,
}

impl Status {
    /// The status that an import's row and its job's row say.
    pub fn of(import: &Import) -> Self {
        let (status, error) = match import.state {
            JobState::Pending => (State::Pending, None),
            JobState::Running => (State::Processing, None),
            JobState::Completed => (State::Completed, None),
            // Clients know two ends: a cancelled import is a failed one that says so.
            JobState::Cancelled => (State::Failed, Some(cancelled(import))),
            JobState::Failed => {
                (State::Failed, import.error.clone().or_else(|| Some("La carga falló".to_owned())))
            }
        };
        let finished = import.finished_at.map(timestamp);
        let options = &import.options;
        Self {
            task_id: import.id,
            status,
            filename: import.source.filename.clone(),
            proveedor_id: import.source.proveedor_id.clone(),
            created_at: timestamp(import.created_at),
            updated_at: timestamp(import.updated_at),
            progress: Progress {
                total: import.total_rows.unwrap_or(import.processed).max(import.processed),
                processed: import.processed,
                successful: import.successful,
                failed: import.failed,
            },
            // What a task came to before it was retried is not what it comes to.
            result: import
                .result
                .clone()
                .filter(|_| import.has_ended())
                .and_then(|result| serde_json::from_value(result).ok()),
            error,
            cancelada: import.state == JobState::Cancelled,
            completed_at: finished.clone().filter(|_| status == State::Completed),
            failed_at: finished.filter(|_| status == State::Failed),
            tipo: match options.kind {
                Kind::Import => None,
                Kind::DryRun => Some(Tipo::Simulacion),
                Kind::Undo => Some(Tipo::Reversion),
            },
            aplica: options.applies,
            corrige: options.corrects,
            revierte: options.undoes,
        }
    }

    /// Whether it will change no more.
    pub const fn is_final(&self) -> bool {
        matches!(self.status, State::Completed | State::Failed)
    }
}

/// The detail of a task that somebody ended: what was done until then.
fn cancelled(import: &Import) -> String {
    match import.options.kind {
        Kind::DryRun => "Simulación cancelada".to_owned(),
        Kind::Undo => format!("Reversión cancelada: se revirtieron {} cambios", import.successful),
        // Rows that are planned count as successful too: what was applied is in the result.
        Kind::Import if import.options.all_or_nothing => {
            let applied = import.result.as_ref().and_then(|result| result["resumen"]["exitosos"].as_u64());
            match applied.unwrap_or_default() {
                0 => "Carga cancelada: no se aplicó ninguna fila".to_owned(),
                applied => format!("Carga cancelada: se aplicaron {applied} filas"),
            }
        }
        Kind::Import => format!("Carga cancelada: se aplicaron {} filas", import.successful),
    }
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
