//! What report says: of reports, and the files that they come to.

use contracts::report::v1::{ReportFailed, ReportReady};
use serde::Serialize;
use utoipa::ToSchema;

/// El avance de un reporte; su final tiene un evento propio.
#[derive(Serialize, ToSchema)]
pub struct ReportProgress {
    id: String,
    /// El día de las campañas, `YYYY-MM-DD`.
    fecha: String,
    /// `detalle` o `resumen`.
    tipo: String,
    /// `PENDIENTE` o `EN PROCESO`.
    estado: String,
    archivos: FilesDone,
    filas: i64,
}

/// Cuántos archivos lleva un reporte.
#[derive(Serialize, ToSchema)]
pub struct FilesDone {
    total: i32,
    completados: i32,
    fallidos: i32,
}

/// Los archivos de un reporte están hechos.
#[derive(Serialize, ToSchema)]
pub struct ReadyReport {
    id: String,
    /// El día de las campañas, `YYYY-MM-DD`.
    fecha: String,
    /// `detalle` o `resumen`.
    tipo: String,
    #[schema(value_type = String, pattern = "^COMPLETADO$")]
    estado: &'static str,
    archivos: u32,
    filas: u64,
    bytes: u64,
    /// Aumenta con cada cambio del reporte; se ignora una menor que la última vista.
    version: u64,
}

/// Un reporte terminó sin todos sus archivos.
#[derive(Serialize, ToSchema)]
pub struct FailedReport {
    id: String,
    /// El día de las campañas, `YYYY-MM-DD`.
    fecha: String,
    /// `detalle` o `resumen`.
    tipo: String,
    #[schema(value_type = String, pattern = "^ERROR$")]
    estado: &'static str,
    archivos: u32,
    /// Cuántos faltan.
    fallidos: u32,
    /// Por qué.
    error: String,
    /// Aumenta con cada cambio del reporte; se ignora una menor que la última vista.
    version: u64,
}

impl From<ReportReady> for ReadyReport {
    fn from(message: ReportReady) -> Self {
        Self {
            id: message.run_id,
            fecha: message.fecha,
            tipo: message.tipo,
            estado: "COMPLETADO",
            archivos: message.files,
            filas: message.rows,
            bytes: message.bytes,
            version: message.version,
        }
    }
}

impl From<ReportFailed> for FailedReport {
    fn from(message: ReportFailed) -> Self {
        Self {
            id: message.run_id,
            fecha: message.fecha,
            tipo: message.tipo,
            estado: "ERROR",
            archivos: message.files,
            fallidos: message.failed,
            error: message.reason,
            version: message.version,
        }
    }
}
