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

/// Lo que esperan los clientes que preguntan: dejan de hacerlo con `completed` o `failed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Pending,
    Processing,
    Completed,
    Failed,
}

/// Qué hace una tarea. Las cargas corrientes no lo dicen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tipo {
    /// Only tells what the file would change.
    Simulacion,
    /// Takes an import back.
    Reversion,
}

/// El avance de una carga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    pub task_id: Uuid,
    pub status: State,
    pub filename: String,
    pub proveedor_id: String,
    /// RFC 3339, en UTC.
    pub created_at: String,
    pub updated_at: String,
    pub progress: Progress,
    /// De una carga que terminó, también si falló a medias.
    pub result: Option<ImportResult>,
    /// De una que falló: por qué, y qué hacer.
    pub error: Option<String>,
    /// Si falló porque alguien la canceló.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancelada: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tipo: Option<Tipo>,
    /// La simulación que esta tarea aplica.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aplica: Option<Uuid>,
    /// La carga cuyas filas rechazadas corrige esta.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub corrige: Option<Uuid>,
    /// La carga que esta tarea revierte.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revierte: Option<Uuid>,
}

/// Cuánto lleva una carga, en filas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Progress {
    /// Todas las filas; una estimación hasta que se lee la última.
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
