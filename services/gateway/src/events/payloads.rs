//! What the live stream says, event by event, as its readers and the OpenAPI document know it: the field names of each
//! service's own API. What one service says is one file.

pub mod catalog;
pub mod etl;
pub mod report;
pub mod sms;

use serde::Serialize;
use utoipa::ToSchema;

pub use self::{
    catalog::{CompletedImport, FailedImport, ImportProgress, UndoneImport},
    etl::{CompletedSync, FailedSync, RefreshedDashboard},
    report::{FailedReport, ReadyReport, ReportProgress},
    sms::{CampaignNews, CampaignProgress, CampaignState, OptedOutContact},
};

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

#[cfg(test)]
mod tests {
    use contracts::{
        Message as _,
        catalog::v1::{ImportCompleted, ImportFailed, ImportUndone},
        etl::v1::{DashboardRefreshed, SyncCompleted, SyncFailed},
        report::v1::{ReportFailed, ReportReady},
        sms::v1::{
            CampaignCompleted, CampaignCreated, CampaignPaused, CampaignResumed, CampaignStarted,
            ContactOptedOut,
        },
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
}
