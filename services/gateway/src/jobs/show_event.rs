//! Shows the platform's events to the people who watch: each goes into the live stream once.

use async_trait::async_trait;
use chassis::redis::Redis;
use contracts::{
    Message,
    catalog::v1::{ImportCompleted, ImportFailed, ImportUndone},
    etl::v1::{DashboardRefreshed, SyncCompleted, SyncFailed},
    live::{FIELD, KEEP, LiveEvent, STREAM},
    queues::GATEWAY_EVENTS,
    report::v1::{ReportFailed, ReportReady},
};
use deadpool_redis::redis::cmd;
use messaging::{Broker, Consumer, Context, Handler, JobError, Policy};
use serde_json::{Value, json};
use uuid::Uuid;

/// How long an event's id and its subject's version are remembered, in seconds: longer than any
/// redelivery takes.
const REMEMBERED: u64 = 24 * 60 * 60;

/// In one step, so that a crash can't leave an event remembered and not shown, nor the other way round.
/// KEYS: stream, id, subject. ARGV: seconds to remember, entries to keep, field, event, version.
/// An event is dropped if it was shown, or if a newer one of its subject was (events are unordered).
const SHOW: &str = r"
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local seen = tonumber(redis.call('GET', KEYS[3]) or '-1')
redis.call('SET', KEYS[2], '1', 'EX', ARGV[1])
if seen > tonumber(ARGV[5]) then return 0 end
redis.call('SET', KEYS[3], ARGV[5], 'EX', ARGV[1])
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', ARGV[3], ARGV[4])
return 1
";

/// Consumes the gateway's queue of events.
pub fn consumer(broker: &Broker, redis: &Redis) -> Consumer {
    let show = ShowEvent { redis: redis.clone() };
    Consumer::new(broker, &GATEWAY_EVENTS)
        .policy(Policy::default())
        .handle::<ImportCompleted>(show.clone())
        .handle::<ImportFailed>(show.clone())
        .handle::<ImportUndone>(show.clone())
        .handle::<ReportReady>(show.clone())
        .handle::<ReportFailed>(show.clone())
        .handle::<SyncCompleted>(show.clone())
        .handle::<SyncFailed>(show.clone())
        .handle::<DashboardRefreshed>(show)
}

/// The handler of all events.
#[derive(Clone)]
pub struct ShowEvent {
    /// Where the live stream is.
    pub redis: Redis,
}

impl ShowEvent {
    /// Returns whether the event was shown now.
    async fn show(&self, id: Uuid, subject: &str, version: u64, event: &LiveEvent) -> Result<bool, JobError> {
        let json = serde_json::to_string(event).map_err(JobError::fail)?;
        let mut script = cmd("EVAL");
        script
            .arg(SHOW)
            .arg(3)
            .arg(self.redis.key(STREAM))
            .arg(self.redis.key(&format!("{STREAM}:shown:{id}")))
            .arg(self.redis.key(&format!("{STREAM}:version:{subject}")))
            .arg(REMEMBERED)
            .arg(KEEP)
            .arg(FIELD)
            .arg(json)
            .arg(version);
        self.redis.query::<bool>(&script).await.map_err(JobError::retry)
    }
}

#[async_trait]
impl Handler<ImportCompleted> for ShowEvent {
    async fn handle(&self, message: ImportCompleted, context: &Context) -> Result<(), JobError> {
        self.show(context.id, &message.task_id, message.version, &completed(&message)).await.map(drop)
    }
}

#[async_trait]
impl Handler<ImportFailed> for ShowEvent {
    async fn handle(&self, message: ImportFailed, context: &Context) -> Result<(), JobError> {
        self.show(context.id, &message.task_id, message.version, &failed(&message)).await.map(drop)
    }
}

#[async_trait]
impl Handler<ImportUndone> for ShowEvent {
    async fn handle(&self, message: ImportUndone, context: &Context) -> Result<(), JobError> {
        self.show(context.id, &message.task_id, message.version, &undone(&message)).await.map(drop)
    }
}

#[async_trait]
impl Handler<ReportReady> for ShowEvent {
    async fn handle(&self, message: ReportReady, context: &Context) -> Result<(), JobError> {
        self.show(context.id, &message.run_id, message.version, &ready(&message)).await.map(drop)
    }
}

#[async_trait]
impl Handler<ReportFailed> for ShowEvent {
    async fn handle(&self, message: ReportFailed, context: &Context) -> Result<(), JobError> {
        self.show(context.id, &message.run_id, message.version, &not_ready(&message)).await.map(drop)
    }
}

#[async_trait]
impl Handler<SyncCompleted> for ShowEvent {
    async fn handle(&self, message: SyncCompleted, context: &Context) -> Result<(), JobError> {
        let event = sync_event::<SyncCompleted>(json!({
            "id": message.run_id,
            "flujo": message.stream,
            "modo": message.mode,
            "estado": "completed",
            "leidos": message.read,
            "insertados": message.inserted,
            "actualizados": message.updated,
            "eliminados": message.deleted,
            "en_cuarentena": message.quarantined,
            "marca": message.watermark,
            "version": message.version,
        }));
        self.show(context.id, &message.run_id, message.version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<SyncFailed> for ShowEvent {
    async fn handle(&self, message: SyncFailed, context: &Context) -> Result<(), JobError> {
        let event = sync_event::<SyncFailed>(json!({
            "id": message.run_id,
            "flujo": message.stream,
            "modo": message.mode,
            "estado": "failed",
            "error": message.reason,
            "version": message.version,
        }));
        self.show(context.id, &message.run_id, message.version, &event).await.map(drop)
    }
}

#[async_trait]
impl Handler<DashboardRefreshed> for ShowEvent {
    async fn handle(&self, message: DashboardRefreshed, context: &Context) -> Result<(), JobError> {
        let event = sync_event::<DashboardRefreshed>(json!({
            "data_version": message.data_version,
            "as_of": message.as_of,
            "id": message.run_id,
        }));
        // One subject: what dashboards read.
        self.show(context.id, "dashboards", message.version, &event).await.map(drop)
    }
}

/// Syncs belong to no supplier: whoever is bound to one does not see them.
fn sync_event<M: Message>(data: Value) -> LiveEvent {
    LiveEvent { kind: M::TYPE.to_owned(), service: "etl".to_owned(), proveedor_id: None, data }
}

/// The event with the field names of the reports' own API.
fn ready(message: &ReportReady) -> LiveEvent {
    report_event::<ReportReady>(json!({
        "id": message.run_id,
        "fecha": message.fecha,
        "tipo": message.tipo,
        "estado": "COMPLETADO",
        "archivos": message.files,
        "filas": message.rows,
        "bytes": message.bytes,
        "version": message.version,
    }))
}

fn not_ready(message: &ReportFailed) -> LiveEvent {
    report_event::<ReportFailed>(json!({
        "id": message.run_id,
        "fecha": message.fecha,
        "tipo": message.tipo,
        "estado": "ERROR",
        "archivos": message.files,
        "fallidos": message.failed,
        "error": message.reason,
        "version": message.version,
    }))
}

/// Reports belong to no supplier: whoever is bound to one does not see them.
fn report_event<M: Message>(data: Value) -> LiveEvent {
    LiveEvent { kind: M::TYPE.to_owned(), service: "report".to_owned(), proveedor_id: None, data }
}

/// The event with the field names of the catalog's own API.
fn completed(message: &ImportCompleted) -> LiveEvent {
    let summary = message.summary.unwrap_or_default();
    event::<ImportCompleted>(
        &message.proveedor_id,
        json!({
            "task_id": message.task_id,
            "status": "completed",
            "filename": message.filename,
            "proveedor_id": message.proveedor_id,
            "version": message.version,
            "resumen": {
                "total": summary.total,
                "exitosos": summary.accepted,
                "rechazados": summary.rejected,
                "duplicados": summary.duplicates,
                "productos_creados": summary.created,
                "productos_actualizados": summary.updated,
            },
        }),
    )
}

fn failed(message: &ImportFailed) -> LiveEvent {
    event::<ImportFailed>(
        &message.proveedor_id,
        json!({
            "task_id": message.task_id,
            "status": "failed",
            "filename": message.filename,
            "proveedor_id": message.proveedor_id,
            "version": message.version,
            "error": message.reason,
        }),
    )
}

fn undone(message: &ImportUndone) -> LiveEvent {
    event::<ImportUndone>(
        &message.proveedor_id,
        json!({
            "task_id": message.task_id,
            "status": "completed",
            "tipo": "reversion",
            "revierte": message.import_id,
            "filename": message.filename,
            "proveedor_id": message.proveedor_id,
            "version": message.version,
            "resumen": {
                "total": message.removed + message.restored + message.kept,
                "exitosos": message.removed + message.restored,
                "rechazados": message.kept,
                "productos_eliminados": message.removed,
                "productos_restaurados": message.restored,
            },
        }),
    )
}

fn event<M: Message>(proveedor_id: &str, data: Value) -> LiveEvent {
    LiveEvent {
        kind: M::TYPE.to_owned(),
        service: "catalog-upload".to_owned(),
        proveedor_id: Some(proveedor_id.to_owned()).filter(|id| !id.is_empty()),
        data,
    }
}

#[cfg(test)]
mod tests {
    use contracts::catalog::v1::ImportSummary;

    use super::*;

    #[test]
    fn events_speak_the_catalogs_language() {
        let summary =
            ImportSummary { total: 3, accepted: 2, rejected: 1, duplicates: 1, created: 2, updated: 0 };
        let event = completed(&ImportCompleted {
            task_id: "t".into(),
            proveedor_id: "PROV001".into(),
            filename: "a.xlsx".into(),
            summary: Some(summary),
            version: 4,
        });
        assert_eq!(event.kind, "lote.catalog.v1.ImportCompleted");
        assert_eq!(event.proveedor_id.as_deref(), Some("PROV001"));
        assert_eq!(event.data["resumen"]["exitosos"], 2);
        assert_eq!(event.data["status"], "completed");
    }
}
