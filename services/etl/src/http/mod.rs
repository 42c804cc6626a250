//! The service's API. Paths, field names and messages are contracts with clients there are.

mod legacy;
mod refresh;
mod runs;
mod scheduler;
mod schedules;
mod status;
mod webhooks;

use chassis::{
    Problem,
    auth::{Caller, Role},
    http::Routes,
    parts::Api,
    routes,
};

use crate::{
    Resources,
    bsale::Bsale,
    domain::stream::{self, Stream},
};

/// The scopes that a limited credential needs.
const READ: &str = "etl:read";
const WRITE: &str = "etl:write";

/// What the service serves.
pub const API: Api = Api { routes, description: "Sincronización de ventas y cobranzas" };

/// Every operation, once: where it is served, what the document says, and so what the test of access asks.
fn routes() -> Routes {
    routes![
        legacy::full,
        legacy::daily,
        legacy::sync,
        legacy::sync_v1,
        legacy::clean_and_reload,
        scheduler::daily,
        scheduler::incremental,
        scheduler::test,
        scheduler::health,
        webhooks::receive,
        runs::list,
        runs::get,
        runs::quarantine,
        status::all,
        status::one,
        status::tables,
        refresh::dashboard,
        refresh::table,
        refresh::cancel,
        refresh::cancel_table,
        refresh::backfill,
        refresh::reset,
        schedules::list,
        schedules::create,
        schedules::get,
        schedules::replace,
        schedules::delete,
    ]
}

/// Sales and collections are everybody's: whoever is bound to one supplier sees none.
fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator, Role::Viewer])?;
    if caller.proveedor_id().is_some() {
        return Err(Problem::forbidden("La cuenta está limitada a un proveedor"));
    }
    caller.require_scope(READ)
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(WRITE)
}

/// Bsale, where this installation has it.
fn bsale(api: &Resources) -> Result<&Bsale, Problem> {
    api.bsale.as_deref().ok_or_else(|| Problem::not_found("Esta instalación no tiene Bsale"))
}

/// The stream of this name, or the one whose table it is.
fn stream_of(name: &str) -> Result<&'static Stream, Problem> {
    stream::all()
        .find(|stream| stream.name == name || stream.table == name)
        .ok_or_else(|| Problem::not_found(format!("La tabla '{name}' no existe")))
}
