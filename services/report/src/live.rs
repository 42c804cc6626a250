//! What those who watch are told of runs.

use chassis::redis::Redis;
use contracts::live::LiveEvent;
use jobs::mirror::Mirror;
use sea_orm::DatabaseConnection;
use serde_json::json;
use uuid::Uuid;

use crate::{SERVICE, domain::state, storage::runs};

/// Tells watchers through Redis, which may be down.
#[derive(Clone)]
pub struct Live(Mirror);

impl Live {
    pub fn new(redis: &Redis) -> Self {
        Self(Mirror::new(redis.pool().clone(), redis.prefix()))
    }

    /// Tells how far a run is. Its end has an event of its own.
    pub async fn publish(&self, orm: &DatabaseConnection, run: Uuid) {
        let run = match runs::get(orm, run).await {
            Ok(Some(run)) if !run.is_final() => run,
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%run, %error, "the run's progress is not told");
                return;
            }
        };
        let data = json!({
            "id": run.id,
            "fecha": run.fecha,
            "tipo": run.params.kind.name(),
            "estado": state::shown(run.state),
            "archivos": { "total": run.files, "completados": run.done, "fallidos": run.failed },
            "filas": run.rows,
        });
        let event =
            LiveEvent { kind: "job.progress".into(), service: SERVICE.into(), proveedor_id: None, data };
        self.0.announce(&event).await;
    }
}
