//! The copies of statuses in Redis, for fast polling, and what watchers are told.

use chassis::redis::Redis;
use contracts::live::LiveEvent;
use jobs::mirror::Mirror;
use uuid::Uuid;

use crate::{SERVICE, status::Status};

/// Statuses in Redis. It may be down, and then PostgreSQL is asked.
#[derive(Clone)]
pub struct Statuses(Mirror);

impl Statuses {
    pub fn new(redis: &Redis) -> Self {
        Self(Mirror::new(redis.pool().clone(), redis.prefix()))
    }

    /// The status, if Redis has it.
    pub async fn get(&self, task_id: Uuid) -> Option<Status> {
        serde_json::from_value(self.0.get(&key(task_id)).await?).ok()
    }

    /// Puts a status, unless Redis has this version of the import or a later one, and tells the watchers.
    pub async fn put(&self, version: i64, status: &Status) {
        let Ok(document) = serde_json::to_value(status) else { return };
        // Lists of ids and errors are for those who ask; a watcher gets the counts.
        let Ok(data) = serde_json::to_value(Status { result: None, ..status.clone() }) else { return };
        let event = LiveEvent {
            kind: "job.progress".into(),
            service: SERVICE.into(),
            proveedor_id: Some(status.proveedor_id.clone()),
            data,
        };
        self.0.put(&key(status.task_id), version, &document, status.is_final(), Some(&event)).await;
    }
}

fn key(task_id: Uuid) -> String {
    format!("catalog:task:{task_id}")
}
