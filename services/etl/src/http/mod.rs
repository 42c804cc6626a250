//! The service's API. Paths, field names and messages are contracts with clients there are.

mod begun;
mod collections;
mod legacy;
mod refresh;
mod runs;
mod scheduler;
mod schedules;
mod status;
mod webhooks;

use chassis::{Problem, auth::Caller, connections::Api, http::Routes, routes};
use chrono::{Days, NaiveDate, Utc};
use sea_orm::DatabaseConnection;

use crate::{
    Resources,
    bsale::Bsale,
    domain::stream::{Source, Stream},
    streams,
};

/// What the service serves.
pub const API: Api = Api { routes, description: "Sincronización de ventas y cobranzas" };

/// Every operation, once: where it is served, what the document says, and so what the test of access asks.
fn routes() -> Routes {
    let dashboards = routes![
        collections::dashboard,
        collections::dashboard_by_filters,
        collections::evolution,
        collections::evolution_by_filters,
        collections::evolution_carteras,
        collections::evolution_metrics,
        collections::assignment,
        collections::operation,
        collections::productivity,
        collections::filters,
    ];
    let syncs = routes![
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
        runs::resume,
        runs::quarantine,
        runs::redrive,
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
    ];
    let slashed = [
        "/api/v1/dashboard",
        "/api/v1/evolution",
        "/api/v1/assignment",
        "/api/v1/operation",
        "/api/v1/productivity",
        "/api/v1/filters",
    ];
    slashed.into_iter().fold(dashboards, |table, path| table.also_with_slash(path)).and(syncs)
}

/// Sales and collections are everybody's: whoever is bound to one supplier sees none.
fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require_reader("etl:read")
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require_operator("etl:write")
}

/// Refuses days that the source can have nothing of: before its first one, or to come.
fn within(source: Source, api: &Resources, days: &[(&str, Option<NaiveDate>)]) -> Result<(), Problem> {
    let (start, now) = (api.settings.start(source), Utc::now());
    // Whichever zone the source's clock is in, there it is no later day yet.
    let last = now.date_naive() + Days::new(1);
    for (name, day) in days {
        if let Some(day) = day.filter(|day| *day < start || *day > last) {
            let detail = format!("{name} es {day}; se espera un día desde {start} hasta hoy");
            return Err(Problem::unprocessable("invalid_day", detail));
        }
    }
    Ok(())
}

/// Bsale, where this installation has it.
fn bsale(api: &Resources) -> Result<&Bsale, Problem> {
    api.bsale.as_deref().ok_or_else(|| Problem::not_found("Esta instalación no tiene Bsale"))
}

/// The database that a stream's rows are in, where this installation has its source.
fn database_of<'a>(api: &'a Resources, stream: &Stream) -> Option<&'a DatabaseConnection> {
    match stream.source {
        Source::Bsale => api.bsale.as_ref().map(|bsale| &bsale.target.db),
        Source::BigQuery => api.bigquery.as_ref().map(|_| &api.database.orm),
    }
}

/// The stream of this name, or the one whose table it is: ours or the source's.
fn stream_of(name: &str) -> Result<&'static Stream, Problem> {
    streams::all()
        .find(|stream| [stream.name, stream.table, stream.shown()].contains(&name))
        .ok_or_else(|| Problem::not_found(format!("La tabla '{name}' no existe")))
}
