//! What etl says: of syncs, and the dashboards that show what they brought.

use contracts::etl::v1::{DashboardRefreshed, SyncCompleted, SyncFailed};
use serde::Serialize;
use utoipa::ToSchema;

/// Una sincronización llegó a su fin.
#[derive(Serialize, ToSchema)]
pub struct CompletedSync {
    id: String,
    /// Como `bsale.documentos`.
    flujo: String,
    /// `full`, `daily`, `backfill` o `check`.
    modo: String,
    #[schema(value_type = String, pattern = "^completed$")]
    estado: &'static str,
    leidos: u64,
    insertados: u64,
    actualizados: u64,
    eliminados: u64,
    en_cuarentena: u64,
    /// Hasta dónde está completo el flujo, por el reloj de la fuente; vacía si no va por marcas.
    marca: String,
    /// Aumenta con cada cambio de la ejecución; se ignora una menor que la última vista.
    version: u64,
}

/// Una sincronización falló o se canceló.
#[derive(Serialize, ToSchema)]
pub struct FailedSync {
    id: String,
    /// Como `bsale.documentos`.
    flujo: String,
    /// `full`, `daily`, `backfill` o `check`.
    modo: String,
    #[schema(value_type = String, pattern = "^failed$")]
    estado: &'static str,
    /// Por qué.
    error: String,
    /// Aumenta con cada cambio de la ejecución; se ignora una menor que la última vista.
    version: u64,
}

/// Los tableros tienen datos nuevos.
#[derive(Serialize, ToSchema)]
pub struct RefreshedDashboard {
    /// La versión de los datos, como en `X-Data-Version`.
    data_version: u64,
    /// De cuándo son.
    as_of: String,
    /// La ejecución que los trajo.
    id: String,
}

impl From<SyncCompleted> for CompletedSync {
    fn from(message: SyncCompleted) -> Self {
        Self {
            id: message.run_id,
            flujo: message.stream,
            modo: message.mode,
            estado: "completed",
            leidos: message.read,
            insertados: message.inserted,
            actualizados: message.updated,
            eliminados: message.deleted,
            en_cuarentena: message.quarantined,
            marca: message.watermark,
            version: message.version,
        }
    }
}

impl From<SyncFailed> for FailedSync {
    fn from(message: SyncFailed) -> Self {
        Self {
            id: message.run_id,
            flujo: message.stream,
            modo: message.mode,
            estado: "failed",
            error: message.reason,
            version: message.version,
        }
    }
}

impl From<DashboardRefreshed> for RefreshedDashboard {
    fn from(message: DashboardRefreshed) -> Self {
        Self { data_version: message.data_version, as_of: message.as_of, id: message.run_id }
    }
}
