//! What the catalog says: of tasks on files of products.

use contracts::catalog::v1::{ImportCompleted, ImportFailed, ImportUndone};
use serde::Serialize;
use utoipa::ToSchema;

/// El avance de una carga: el documento de su `status_url`, con `result` nulo.
#[derive(Serialize, ToSchema)]
pub struct ImportProgress {
    task_id: String,
    status: ImportState,
    filename: String,
    proveedor_id: String,
    created_at: String,
    updated_at: String,
    progress: RowsDone,
    error: Option<String>,
    /// Si falló porque alguien la canceló.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelada: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tipo: Option<ImportTask>,
    /// La simulación que esta tarea aplica.
    #[serde(skip_serializing_if = "Option::is_none")]
    aplica: Option<String>,
    /// La carga cuyas filas rechazadas corrige esta.
    #[serde(skip_serializing_if = "Option::is_none")]
    corrige: Option<String>,
    /// La carga que esta tarea revierte.
    #[serde(skip_serializing_if = "Option::is_none")]
    revierte: Option<String>,
}

/// En qué va una carga.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    Pending,
    Processing,
    Completed,
    Failed,
}

/// Qué hace una tarea que no es una carga corriente.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportTask {
    Simulacion,
    Reversion,
}

/// Cuánto lleva una carga, en filas.
#[derive(Serialize, ToSchema)]
pub struct RowsDone {
    /// Todas las filas; una estimación hasta que se lee la última.
    total: i64,
    processed: i64,
    successful: i64,
    failed: i64,
}

/// Una carga terminó y cada fila tiene su resultado.
#[derive(Serialize, ToSchema)]
pub struct CompletedImport {
    task_id: String,
    #[schema(value_type = String, pattern = "^completed$")]
    status: &'static str,
    filename: String,
    proveedor_id: String,
    /// Aumenta con cada cambio de la carga; se ignora una menor que la última vista.
    version: u64,
    resumen: ImportSums,
}

/// `total = exitosos + rechazados`; `exitosos = productos_creados + productos_actualizados`.
#[derive(Serialize, ToSchema)]
pub struct ImportSums {
    total: u32,
    exitosos: u32,
    rechazados: u32,
    duplicados: u32,
    productos_creados: u32,
    productos_actualizados: u32,
}

/// Una carga falló o se canceló.
#[derive(Serialize, ToSchema)]
pub struct FailedImport {
    task_id: String,
    #[schema(value_type = String, pattern = "^failed$")]
    status: &'static str,
    filename: String,
    proveedor_id: String,
    /// Aumenta con cada cambio de la carga; se ignora una menor que la última vista.
    version: u64,
    /// Por qué.
    error: String,
}

/// Una carga se revirtió.
#[derive(Serialize, ToSchema)]
pub struct UndoneImport {
    task_id: String,
    #[schema(value_type = String, pattern = "^completed$")]
    status: &'static str,
    #[schema(value_type = String, pattern = "^reversion$")]
    tipo: &'static str,
    /// La carga que se revirtió.
    revierte: String,
    filename: String,
    proveedor_id: String,
    /// Aumenta con cada cambio de la tarea; se ignora una menor que la última vista.
    version: u64,
    resumen: UndoSums,
}

/// `total = exitosos + rechazados`; `exitosos = productos_eliminados + productos_restaurados`.
#[derive(Serialize, ToSchema)]
pub struct UndoSums {
    total: u32,
    exitosos: u32,
    /// Los que quedan como están porque cambiaron después de la carga.
    rechazados: u32,
    productos_eliminados: u32,
    productos_restaurados: u32,
}

impl From<ImportCompleted> for CompletedImport {
    fn from(message: ImportCompleted) -> Self {
        let summary = message.summary.unwrap_or_default();
        Self {
            task_id: message.task_id,
            status: "completed",
            filename: message.filename,
            proveedor_id: message.proveedor_id,
            version: message.version,
            resumen: ImportSums {
                total: summary.total,
                exitosos: summary.accepted,
                rechazados: summary.rejected,
                duplicados: summary.duplicates,
                productos_creados: summary.created,
                productos_actualizados: summary.updated,
            },
        }
    }
}

impl From<ImportFailed> for FailedImport {
    fn from(message: ImportFailed) -> Self {
        Self {
            task_id: message.task_id,
            status: "failed",
            filename: message.filename,
            proveedor_id: message.proveedor_id,
            version: message.version,
            error: message.reason,
        }
    }
}

impl From<ImportUndone> for UndoneImport {
    fn from(message: ImportUndone) -> Self {
        Self {
            task_id: message.task_id,
            status: "completed",
            tipo: "reversion",
            revierte: message.import_id,
            filename: message.filename,
            proveedor_id: message.proveedor_id,
            version: message.version,
            resumen: UndoSums {
                total: message.removed + message.restored + message.kept,
                exitosos: message.removed + message.restored,
                rechazados: message.kept,
                productos_eliminados: message.removed,
                productos_restaurados: message.restored,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use contracts::catalog::v1::ImportSummary;
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn a_tasks_progress_has_what_its_status_has_and_says_what_may_be_absent() {
        let schema = serde_json::to_value(ImportProgress::schema()).expect("JSON");
        let required = schema["required"].as_array().expect("required fields");
        for optional in ["cancelada", "completed_at", "failed_at", "tipo", "aplica", "corrige", "revierte"] {
            assert!(schema["properties"][optional].is_object(), "{optional} is not in {schema}");
            assert!(!required.iter().any(|name| name == optional), "{optional} may be absent: {schema}");
        }
        let states = serde_json::to_value(ImportState::schema()).expect("JSON");
        assert_eq!(states["enum"], serde_json::json!(["pending", "processing", "completed", "failed"]));
    }

    #[test]
    fn events_speak_the_catalogs_language() {
        let summary =
            ImportSummary { total: 3, accepted: 2, rejected: 1, duplicates: 1, created: 2, updated: 0 };
        let payload = CompletedImport::from(ImportCompleted {
            task_id: "t".into(),
            proveedor_id: "PROV001".into(),
            filename: "a.xlsx".into(),
            summary: Some(summary),
            version: 4,
        });
        let json = serde_json::to_value(&payload).expect("JSON");
        assert_eq!(json["resumen"]["exitosos"], 2);
        assert_eq!(json["status"], "completed");
    }
}
