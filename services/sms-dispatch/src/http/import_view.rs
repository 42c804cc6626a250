//! What a client sees of an import.

use chassis::http::job::{Pace, percent};
use chrono::{DateTime, Utc};
use jobs::{Job, State};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::storage::imports::Import;

/// Una importación, y cuánto lleva.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportView {
    id: Uuid,
    source: String,
    kind: &'static str,
    consent: String,
    dry_run: bool,
    /// pending, running, completed, failed o cancelled; rolled_back cuando se revirtió.
    status: &'static str,
    /// load, index o merge, mientras corre.
    phase: Option<String>,
    /// Filas del archivo, cuando se conocen.
    total: Option<i64>,
    processed: i64,
    rejected: i64,
    percent: Option<f64>,
    rows_per_second: Option<f64>,
    eta_seconds: Option<i64>,
    error: Option<String>,
    imported_by: String,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    rolled_back_at: Option<DateTime<Utc>>,
    summary: Option<SummaryView>,
    report_url: Option<String>,
}

/// Qué fue de las filas: `rows = created + updated + unchanged + merged + rejected`.
#[derive(Debug, Serialize, ToSchema)]
struct SummaryView {
    rows: i64,
    created: i64,
    updated: i64,
    unchanged: i64,
    merged: i64,
    rejected: i64,
}

/// Una página de importaciones.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportPage {
    pub imports: Vec<ImportView>,
    /// Para pedir la página siguiente; falta en la última.
    pub next_cursor: Option<Uuid>,
}

impl ImportView {
    /// An import that was restored from a backup has no job any more: it is what its row says.
    pub fn of(import: &Import, job: Option<&Job>) -> Self {
        let progress = job.map(|job| job.progress).unwrap_or_default();
        let state = match job {
            Some(job) => job.state,
            None if import.source_rows.is_some() => State::Completed,
            None => State::Failed,
        };
        let running = state == State::Running;
        let pace = job.map(|job| Pace::of(job, Utc::now())).unwrap_or_default();
        let done = if state == State::Completed { import.source_rows } else { Some(progress.processed) };
        let total = progress.total.or(import.source_rows);
        Self {
            id: import.id,
            source: import.source.clone(),
            kind: import.kind.name(),
            consent: import.consent.clone(),
            dry_run: import.options.dry_run,
            status: if import.rolled_back_at.is_some() { "rolled_back" } else { state.name() },
            phase: job
                .filter(|_| running)
                .and_then(|job| job.checkpoint.as_ref()?.get("phase")?.as_str().map(str::to_owned)),
            total,
            processed: done.unwrap_or_default(),
            rejected: import.rejected.unwrap_or(progress.failed),
            percent: done.and_then(|done| percent(done, total)),
            rows_per_second: pace.per_second.map(f64::round),
            eta_seconds: pace.eta_seconds,
            error: job.and_then(|job| job.error.clone()),
            imported_by: import.imported_by.clone(),
            created_at: import.created_at,
            started_at: job.and_then(|job| job.started_at),
            finished_at: job.and_then(|job| job.finished_at),
            rolled_back_at: import.rolled_back_at,
            summary: import.source_rows.map(|rows| SummaryView {
                rows,
                created: import.created.unwrap_or_default(),
                updated: import.updated.unwrap_or_default(),
                unchanged: import.unchanged.unwrap_or_default(),
                merged: import.merged.unwrap_or_default(),
                rejected: import.rejected.unwrap_or_default(),
            }),
            report_url: import
                .report
                .as_ref()
                .map(|_| format!("/api/v1/contacts/imports/{}/report", import.id)),
        }
    }
}
