//! What operators need of every service, at `/api/v1/admin/<service>/`: its dead letters, its queues, its
//! jobs and its workers. For admins and operators.

mod dead_letters;
mod jobs;
mod queues;

use actix_web::web::{self, Data, ServiceConfig};
use contracts::Queue;
use messaging::Broker;
use sea_orm::sqlx::PgPool;
use utoipa::OpenApi as _;

use crate::{
    Problem,
    auth::{Caller, Role},
    db::Database,
};

/// The administration of one service.
#[derive(Clone)]
pub struct Admin {
    service: &'static str,
    context: Data<Context>,
}

/// What the handlers work with.
struct Context {
    pool: PgPool,
    broker: Broker,
    queues: &'static [&'static Queue],
}

impl Admin {
    /// The administration of `service`, whose dead letters and jobs are in `database`, and which consumes
    /// `queues`.
    pub fn new(
        service: &'static str,
        database: &Database,
        broker: &Broker,
        queues: &'static [&'static Queue],
    ) -> Self {
        let context = Context { pool: database.pool.clone(), broker: broker.clone(), queues };
        Self { service, context: Data::new(context) }
    }

    /// Adds the routes. Needs what [`Caller`] needs.
    pub fn configure(&self, config: &mut ServiceConfig) {
        config.service(
            web::scope(&prefix(self.service))
                .app_data(self.context.clone())
                .configure(dead_letters::routes)
                .configure(queues::routes)
                .configure(jobs::routes),
        );
    }
}

fn prefix(service: &str) -> String {
    format!("/api/v1/admin/{service}")
}

/// What a limited token needs to look, and to decide.
const READ: &str = "admin:read";
const WRITE: &str = "admin:write";

/// Reading and deciding about what all suppliers sent is for these.
fn operators_only(caller: &Caller, scope: &str) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(scope)
}

/// The OpenAPI document of a service's administration, for the service to merge into its own.
pub fn openapi(service: &str) -> utoipa::openapi::OpenApi {
    let mut document = Documented::openapi();
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths =
        paths.into_iter().map(|(path, item)| (format!("{}{path}", prefix(service)), item)).collect();
    // One operation a service: the same name twice would make the merged document invalid.
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.operation_id =
                operation.operation_id.take().map(|id| format!("{}_{id}", service.replace('-', "_")));
        }
    }
    document
}

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(
        dead_letters::list,
        dead_letters::get,
        dead_letters::replay,
        dead_letters::discard,
        dead_letters::audit,
        queues::depths,
        jobs::list,
        jobs::at_work
    ),
    tags((name = "admin", description = "Mensajes muertos, colas, tareas y procesos, por servicio"))
)]
struct Documented;
