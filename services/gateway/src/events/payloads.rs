//! What the live stream says, event by event, as its readers and the OpenAPI document know it: the field names of each
//! service's own API.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use contracts::{
    catalog::v1::{ImportCompleted, ImportFailed, ImportUndone},
    etl::v1::{DashboardRefreshed, SyncCompleted, SyncFailed},
    report::v1::{ReportFailed, ReportReady},
    sms::v1::{Campaign, ContactOptedOut},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Un evento del flujo: `event` es su nombre y `data`, su JSON. El `id` de cada uno va en su propia línea.
#[derive(Serialize, ToSchema)]
#[serde(tag = "event", content = "data")]
pub enum StreamEvent {
    #[serde(rename = "job.progress")]
    Progress(Told<Progress>),
    #[serde(rename = "lote.catalog.v1.ImportCompleted")]
    ImportCompleted(Told<CompletedImport>),
    #[serde(rename = "lote.catalog.v1.ImportFailed")]
    ImportFailed(Told<FailedImport>),
    #[serde(rename = "lote.catalog.v1.ImportUndone")]
    ImportUndone(Told<UndoneImport>),
    #[serde(rename = "lote.report.v1.ReportReady")]
    ReportReady(Told<ReadyReport>),
    #[serde(rename = "lote.report.v1.ReportFailed")]
    ReportFailed(Told<FailedReport>),
    #[serde(rename = "lote.etl.v1.SyncCompleted")]
    SyncCompleted(Told<CompletedSync>),
    #[serde(rename = "lote.etl.v1.SyncFailed")]
    SyncFailed(Told<FailedSync>),
    #[serde(rename = "lote.etl.v1.DashboardRefreshed")]
    DashboardRefreshed(Told<RefreshedDashboard>),
    #[serde(rename = "lote.sms.v1.CampaignCreated")]
    CampaignCreated(Told<CampaignNews>),
    #[serde(rename = "lote.sms.v1.CampaignStarted")]
    CampaignStarted(Told<CampaignNews>),
    #[serde(rename = "lote.sms.v1.CampaignPaused")]
    CampaignPaused(Told<CampaignNews>),
    #[serde(rename = "lote.sms.v1.CampaignResumed")]
    CampaignResumed(Told<CampaignNews>),
    #[serde(rename = "lote.sms.v1.CampaignCompleted")]
    CampaignCompleted(Told<CampaignNews>),
    #[serde(rename = "lote.sms.v1.ContactOptedOut")]
    ContactOptedOut(Told<OptedOutContact>),
    #[serde(rename = "reset")]
    Reset(Reset),
    #[serde(rename = "expired")]
    Expired(Expired),
}

/// Lo que dice un servicio.
#[derive(Serialize, ToSchema)]
pub struct Told<T> {
    /// Qué servicio lo dice.
    service: String,
    /// De qué proveedor es, si es de uno.
    proveedor_id: Option<String>,
    data: T,
}

/// El avance de una tarea.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Progress {
    Import(ImportProgress),
    Report(ReportProgress),
    Campaign(CampaignProgress),
}

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

/// El avance de una campaña: el documento de `GET /api/v1/campaigns/{id}/progress`. Llega una vez por segundo como máximo,
/// mientras cambia, y por última vez cuando ya no queda nada por enviar.
#[derive(Serialize, ToSchema)]
pub struct CampaignProgress {
    id: String,
    state: CampaignState,
    /// Por qué está en pausa o falló.
    reason: Option<String>,
    matched: i64,
    recipients: i64,
    /// Quiénes quedaron fuera del público, por motivo.
    excluded: BTreeMap<String, i64>,
    /// Mensajes por estado; su suma es `recipients`.
    messages: BTreeMap<String, i64>,
    /// Los mensajes que no llegaron, por código.
    codes: BTreeMap<String, i64>,
    parts: i64,
    /// En millonésimas; null si hay varias monedas.
    cost_micros: Option<i64>,
    costs: Vec<CampaignCost>,
    waits: Vec<CampaignWait>,
}

/// En qué va una campaña.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CampaignState {
    Draft,
    Scheduled,
    Preparing,
    Running,
    Paused,
    Completed,
    Cancelled,
    Failed,
}

/// Lo que cuesta una campaña en una moneda.
#[derive(Serialize, ToSchema)]
pub struct CampaignCost {
    /// ISO 4217; null si nadie la dijo.
    currency: Option<String>,
    cost_micros: i64,
}

/// Mensajes de una campaña que esperan.
#[derive(Serialize, ToSchema)]
pub struct CampaignWait {
    /// `horario`, `ritmo`, `proveedor`, `presupuesto`, `rampa` o `error`.
    reason: String,
    messages_at_most: i64,
    next_at: Option<String>,
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

/// Una campaña se creó, o cambió de estado.
#[derive(Serialize, ToSchema)]
pub struct CampaignNews {
    id: String,
    name: String,
    /// Su día, `YYYY-MM-DD`; null si aún no inicia.
    date: Option<String>,
    state: CampaignState,
    /// A cuántas personas se envía; 0 si aún no inicia.
    recipients: u64,
    /// Por qué está en pausa.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Aumenta con cada cambio de la campaña; se ignora una menor que la última vista.
    version: u64,
}

/// Alguien se dio de baja: desde entonces no se le escribe.
#[derive(Serialize, ToSchema)]
pub struct OptedOutContact {
    /// Nunca el número entero: solo sus cuatro últimas cifras, como `+52******0150`.
    phone: String,
    /// Cómo: `respuesta`, `enlace`, `proveedor`, o lo que dijo quien lo registró.
    source: String,
    opted_out_at: Option<String>,
}

/// Se perdieron eventos: hay que leer el estado actual.
#[derive(Serialize, ToSchema)]
pub struct Reset {
    #[schema(pattern = "^(unknown_id|lagged|trimmed)$")]
    reason: String,
}

/// El flujo terminó.
#[derive(Serialize, ToSchema)]
pub struct Expired {
    #[schema(pattern = "^(token_expired|session_ended)$")]
    reason: String,
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

impl CampaignState {
    /// How a campaign ended, by the state that its last event names for people.
    pub fn ended(told: &str) -> Self {
        match told {
            "CANCELADA" => Self::Cancelled,
            "FALLIDA" => Self::Failed,
            _ => Self::Completed,
        }
    }
}

impl CampaignNews {
    /// What is told of a campaign that is in this state now; `reason` is why it is paused.
    pub fn new(campaign: Campaign, state: CampaignState, reason: Option<String>) -> Self {
        Self {
            id: campaign.id,
            name: campaign.name,
            date: Some(campaign.date).filter(|date| !date.is_empty()),
            state,
            recipients: campaign.expected_rows,
            reason: reason.filter(|reason| !reason.is_empty()),
            version: campaign.version,
        }
    }
}

impl From<ContactOptedOut> for OptedOutContact {
    fn from(message: ContactOptedOut) -> Self {
        let at =
            message.opted_out_at.and_then(|at| DateTime::from_timestamp(at.seconds, at.nanos.unsigned_abs()));
        Self {
            phone: masked(&message.phone),
            source: message.source,
            opted_out_at: at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        }
    }
}

/// A phone's country and last four digits. The stream is for viewers too, who see no phones; whoever may see them asks the
/// API for suppressions, and Redis keeps none.
fn masked(phone: &str) -> String {
    match (
        phone.get(..3),
        phone.len().checked_sub(4).filter(|rest| *rest > 3).and_then(|rest| phone.get(rest..)),
    ) {
        (Some(country), Some(last)) => format!("{country}******{last}"),
        _ => "******".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        Message as _,
        catalog::v1::ImportSummary,
        sms::v1::{CampaignCompleted, CampaignCreated, CampaignPaused, CampaignResumed, CampaignStarted},
    };
    use utoipa::PartialSchema as _;

    use super::*;

    #[test]
    fn the_document_names_each_event_that_is_shown() {
        let schema = serde_json::to_string(&StreamEvent::schema()).expect("JSON");
        let shown = [
            ImportCompleted::TYPE,
            ImportFailed::TYPE,
            ImportUndone::TYPE,
            ReportReady::TYPE,
            ReportFailed::TYPE,
            SyncCompleted::TYPE,
            SyncFailed::TYPE,
            DashboardRefreshed::TYPE,
            CampaignCreated::TYPE,
            CampaignStarted::TYPE,
            CampaignPaused::TYPE,
            CampaignResumed::TYPE,
            CampaignCompleted::TYPE,
            ContactOptedOut::TYPE,
        ];
        for name in shown {
            assert!(schema.contains(&format!("\"{name}\"")), "{name} is not in {schema}");
        }
    }

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

    #[test]
    fn nobody_is_told_a_phone() {
        let payload = OptedOutContact::from(ContactOptedOut {
            phone: "+526121000150".into(),
            source: "respuesta".into(),
            opted_out_at: Some(Default::default()),
        });
        let json = serde_json::to_value(&payload).expect("JSON");
        assert_eq!(json["phone"], "+52******0150");
        assert_eq!(json["opted_out_at"], "1970-01-01T00:00:00.000Z");
        for odd in ["", "1234", "+521234", "ñññññ"] {
            assert_eq!(masked(odd), "******", "{odd:?}");
        }
    }

    #[test]
    fn campaigns_end_as_their_last_event_says() {
        for (told, state) in [("COMPLETADA", "completed"), ("CANCELADA", "cancelled"), ("FALLIDA", "failed")]
        {
            let campaign = Campaign {
                id: "c".into(),
                date: "2026-11-27".into(),
                state: told.into(),
                ..Default::default()
            };
            let payload = CampaignNews::new(campaign, CampaignState::ended(told), None);
            let json = serde_json::to_value(&payload).expect("JSON");
            assert_eq!(json["state"], state);
            assert_eq!(json["date"], "2026-11-27");
            assert!(json.get("reason").is_none(), "{json}");
        }
    }
}
