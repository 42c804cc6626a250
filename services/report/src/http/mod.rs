//! The service's API. Paths, field names and messages are contracts with clients there are.

mod campaigns;
mod changes;
mod day;
mod downloads;
mod files;
mod legacy;
mod reports;
mod schedules;

use chassis::{
    Problem,
    auth::Caller,
    connections::Api,
    http::{Routes, in_range},
    routes,
};

use crate::Resources;

/// What the service serves.
pub const API: Api = Api { routes, description: "Reportes de campañas SMS" };

/// Every operation, once: where it is served, what the document says, and so what the test of access asks.
fn routes() -> Routes {
    let reports = routes![
        legacy::generate,
        legacy::status,
        campaigns::list,
        campaigns::days,
        reports::create,
        reports::list,
        reports::get,
        files::list,
        files::manifest,
        changes::cancel,
        changes::retry,
        downloads::all,
        downloads::one,
        schedules::create,
        schedules::list,
        schedules::get,
        schedules::replace,
        schedules::delete,
    ];
    reports.also_with_slash("/reporte").also_with_slash("/campania")
}

/// Reports are about everybody's campaigns: whoever is bound to one supplier sees none.
fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require_reader("reports:read")
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require_operator("reports:write")
}
