//! The status of an import as its clients know it: the same document from Redis while the import
//! lives, and from PostgreSQL for ever.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{domain::Summary, storage::imports::Import};

/// What polling clients wait for: they stop at `completed` or `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Processing,
    Completed,
    Failed,
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
    /// Of a completed import.
    pub result: Option<ImportResult>,
    /// Of a failed one: why, and what to do.
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_at: Option<String>,
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

/// What a completed import came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportResult {
    pub mensaje: String,
    pub resumen: Resumen,
    /// The first 1,000 ids.
    pub productos_creados: Vec<String>,
    /// The first 1,000 ids.
    pub productos_actualizados: Vec<String>,
    /// The first 1,000 rejected rows, in the order of the sheet.
    pub errores: Vec<RowProblem>,
    /// Whether one of the lists is longer than it is shown.
    pub truncado: bool,
}

/// The sums: total = exitosos + rechazados; exitosos = productos_creados + productos_actualizados.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resumen {
    pub total: u64,
    pub exitosos: u64,
    pub rechazados: u64,
    /// Rows that met an existing product or an earlier row of the file, whether rejected or updated.
    pub duplicados: u64,
    pub productos_creados: u64,
    pub productos_actualizados: u64,
}

impl From<&Summary> for Resumen {
    fn from(summary: &Summary) -> Self {
        Self {
            total: summary.total,
            exitosos: summary.accepted,
            rechazados: summary.rejected,
            duplicados: summary.duplicates,
            productos_creados: summary.created,
            productos_actualizados: summary.updated,
        }
    }
}

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowProblem {
    /// The row of the sheet; the header is 1.
    pub fila: i32,
    /// What is wrong, for a person.
    pub error: String,
    /// The same for a program.
    pub codigo: String,
    pub columna: Option<String>,
    pub valor: Option<String>,
}

impl Status {
    /// The status that an import's row and its job's row say.
    pub fn of(import: &Import) -> Self {
        let (status, error) = match import.state.as_str() {
            "pending" => (State::Pending, None),
            "running" => (State::Processing, None),
            "completed" => (State::Completed, None),
            // Clients know two ends: a cancelled import is a failed one that says so.
            "cancelled" => (State::Failed, Some("Carga cancelada".to_owned())),
            _ => (State::Failed, import.error.clone().or_else(|| Some("La carga falló".to_owned()))),
        };
        let finished = import.finished_at.map(timestamp);
        Self {
            task_id: import.id,
            status,
            filename: import.filename.clone(),
            proveedor_id: import.proveedor_id.clone(),
            created_at: timestamp(import.created_at),
            updated_at: timestamp(import.updated_at),
            progress: Progress {
                total: import.total_rows.unwrap_or(import.processed).max(import.processed),
                processed: import.processed,
                successful: import.successful,
                failed: import.failed,
            },
            result: import.result.clone().and_then(|result| serde_json::from_value(result).ok()),
            error,
            completed_at: finished.clone().filter(|_| status == State::Completed),
            failed_at: finished.filter(|_| status == State::Failed),
        }
    }

    /// Whether it will change no more.
    pub const fn is_final(&self) -> bool {
        matches!(self.status, State::Completed | State::Failed)
    }
}

fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
