use std::time::Duration;

use actix_web::web::Data;
use futures::future::join_all;
use outbox::dead_letters as archive;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Context, READ, operators_only};
use crate::{
    auth::Caller,
    http::{ApiResult, Json},
};

/// A broker that takes longer is shown as not answering.
const PATIENCE: Duration = Duration::from_secs(2);

/// Cuán llena está una cola.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueDepth {
    queue: &'static str,
    /// Mensajes que esperan.
    ready: Option<u64>,
    /// Mensajes tomados y sin terminar.
    in_flight: Option<u64>,
    /// En la cola de mensajes muertos del broker, sin archivar todavía.
    dead: Option<u64>,
    /// Mensajes muertos archivados que nadie ha reenviado ni descartado; nulo si la base de datos no respondió.
    open_letters: Option<i64>,
    /// Antigüedad del que más espera, en segundos, si se conoce.
    oldest_age_s: Option<u64>,
    /// Si el broker respondió; sin respuesta faltan las cifras.
    available: bool,
}

/// Shows how full the service's queues are.
#[utoipa::path(
    operation_id = "queues_list", summary = "Ver cuán llenas están las colas",
    description = "",
    get, path = "/queues", tag = "admin",
    responses((status = 200, body = [QueueDepth]))
)]
pub(super) async fn depths(caller: Caller, context: Data<Context>) -> ApiResult<Json<Vec<QueueDepth>>> {
    operators_only(&caller, READ)?;
    let names: Vec<&str> = context.queues.iter().map(|queue| queue.name).collect();
    // Queues are looked at when something is wrong: without the database what the broker says is told all the same.
    let open = match archive::open_by_queue(&context.pool, &names).await {
        Ok(open) => Some(open),
        Err(error) => {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "no count of open letters");
            None
        }
    };
    let depths = join_all(context.queues.iter().map(|queue| async {
        let depth = match tokio::time::timeout(PATIENCE, context.broker.depth(queue)).await {
            Ok(Ok(depth)) => Some(depth),
            Ok(Err(error)) => {
                tracing::warn!(queue = queue.name, error = format!("{error:#}"), "no depth of this queue");
                None
            }
            Err(_) => {
                tracing::warn!(queue = queue.name, "no depth of this queue in time");
                None
            }
        };
        QueueDepth {
            queue: queue.name,
            ready: depth.map(|depth| depth.ready),
            in_flight: depth.map(|depth| depth.in_flight),
            dead: depth.map(|depth| depth.dead),
            open_letters: open.as_ref().map(|open| open.get(queue.name).copied().unwrap_or_default()),
            oldest_age_s: depth.and_then(|depth| depth.oldest_age).map(|age| age.as_secs()),
            available: depth.is_some(),
        }
    }))
    .await;
    Ok(Json(depths))
}
