use std::time::Duration;

use actix_web::web::Data;
use futures::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Context, READ, operators_only};
use crate::{Problem, auth::Caller, http::Json};

/// A broker that takes longer is shown as not answering.
const PATIENCE: Duration = Duration::from_secs(2);

/// How full a queue is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct QueueDepth {
    queue: &'static str,
    /// Waiting to be taken.
    ready: Option<u64>,
    /// Taken and not settled.
    in_flight: Option<u64>,
    /// In the broker's dead-letter queue, not archived yet.
    dead: Option<u64>,
    /// Age of the oldest one waiting, in seconds, where it is known.
    oldest_age_s: Option<u64>,
    /// Whether the broker answered; the numbers are absent where it did not.
    available: bool,
}

/// Shows how full the service's queues are.
#[utoipa::path(
    operation_id = "queues_list", summary = "Ver cuán llenas están las colas",
    description = "",
    get, path = "/queues", tag = "admin",
    responses((status = 200, body = [QueueDepth]))
)]
pub(super) async fn depths(caller: Caller, context: Data<Context>) -> Result<Json<Vec<QueueDepth>>, Problem> {
    operators_only(&caller, READ)?;
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
            oldest_age_s: depth.and_then(|depth| depth.oldest_age).map(|age| age.as_secs()),
            available: depth.is_some(),
        }
    }))
    .await;
    Ok(Json(depths))
}
