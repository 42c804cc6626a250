//! What operators need of every service, at `/api/v1/admin/<service>/`: its dead letters, its queues, its
//! jobs and its workers. For admins and operators.

mod dead_letters;
mod jobs;
mod queues;

use actix_web::web::{Data, ServiceConfig};
use contracts::Queue;
use messaging::Broker;
use sea_orm::sqlx::PgPool;

use crate::{
    Problem,
    auth::{Caller, Role},
    db::Database,
    http::Routes,
    routes,
};

/// The administration of one service.
#[derive(Clone)]
pub struct Admin {
    context: Data<Context>,
}

/// What the handlers work with.
struct Context {
    pool: PgPool,
    broker: Broker,
    queues: &'static [&'static Queue],
}

impl Admin {
    /// The administration of a service whose dead letters and jobs are in `database`, and which consumes `queues`.
    pub fn new(database: &Database, broker: &Broker, queues: &'static [&'static Queue]) -> Self {
        let context = Context { pool: database.pool.clone(), broker: broker.clone(), queues };
        Self { context: Data::new(context) }
    }

    /// Adds what the handlers of [`routes`] work with.
    pub fn configure(&self, config: &mut ServiceConfig) {
        config.app_data(self.context.clone());
    }
}

/// The operations of a service's administration, for the service to add to its own. They need what [`Caller`] needs, and
/// [`Admin::configure`].
pub fn routes(service: &str) -> Routes {
    routes![
        dead_letters::list,
        dead_letters::get,
        dead_letters::replay,
        dead_letters::discard,
        dead_letters::audit,
        queues::depths,
        jobs::list,
        jobs::at_work,
    ]
    .under(&format!("/api/v1/admin/{service}"))
}

/// What a limited token needs to look, and to decide.
const READ: &str = "admin:read";
const WRITE: &str = "admin:write";

/// Reading and deciding about what all suppliers sent is for these.
fn operators_only(caller: &Caller, scope: &str) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(scope)
}
