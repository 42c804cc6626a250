//! What who sends a task is told at once.

use actix_web::HttpResponse;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    status::{State, Status},
    storage::imports::{Import, Source},
};

/// La tarea está guardada y se procesará.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    message: &'static str,
    task_id: Uuid,
    status: State,
    /// Dónde preguntar cuánto lleva.
    status_url: String,
    filename: String,
    proveedor_id: String,
}

impl Accepted {
    pub fn new(message: &'static str, task_id: Uuid, status: State, source: &Source) -> Self {
        Self {
            message,
            task_id,
            status,
            status_url: format!("/api/catalog/bulk-upload/status/{task_id}"),
            filename: source.filename.clone(),
            proveedor_id: source.proveedor_id.clone(),
        }
    }

    /// Of a task that is there.
    pub fn of(message: &'static str, import: &Import) -> Self {
        Self::new(message, import.id, Status::of(import).status, &import.source)
    }

    pub fn respond(self) -> HttpResponse {
        HttpResponse::Accepted().insert_header(("Location", self.status_url.clone())).json(self)
    }
}
