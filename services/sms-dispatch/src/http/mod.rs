//! The service's API.

mod audience_files;
mod campaign_actions;
mod campaign_again;
mod campaign_preview;
pub(crate) mod campaign_view;
mod campaigns;
mod changes;
mod contacts;
mod import_view;
mod imports;
mod job_requests;
mod messages;
mod opt_out_page;
mod phone_searches;
mod prices;
mod rejected_rows;
mod segments;
mod senders;
mod stats;
mod suppression_imports;
mod suppressions;
mod trials;
mod validations;
mod view;
mod webhooks;

use actix_web::{HttpResponse, HttpResponseBuilder};
use chassis::{
    Problem,
    auth::{Caller, Role},
    connections::Api,
    http::Routes,
    routes,
};

use crate::Resources;

/// The scopes that a limited credential needs.
const READ: &str = "contacts:read";
const WRITE: &str = "contacts:write";

/// What the service serves.
pub const API: Api = Api { routes, description: "Contactos, segmentos y campañas SMS" };

/// Every operation, once: where it is served, what the document says, and so what the test of access asks.
fn routes() -> Routes {
    let contacts = routes![
        imports::start,
        imports::list,
        imports::get,
        imports::report,
        rejected_rows::download,
        imports::cancel,
        imports::roll_back,
        contacts::list,
        contacts::get,
        changes::patch,
        changes::opt_out,
        changes::opt_in,
        stats::stats,
        validations::start,
        validations::list,
        validations::get,
        validations::cancel,
        validations::retry,
        suppression_imports::import,
        suppressions::get,
        suppressions::delete,
        segments::create,
        segments::list,
        segments::get,
        segments::replace,
        segments::delete,
        segments::preview,
        audience_files::upload,
        audience_files::list,
        audience_files::get,
        audience_files::rejected,
        audience_files::cancel,
        audience_files::delete,
        campaigns::create,
        campaigns::list,
        campaigns::get,
        campaigns::replace,
        campaigns::delete,
        campaign_preview::preview,
        campaigns::progress,
        campaigns::messages,
        campaigns::replies,
        campaign_actions::start,
        campaign_actions::schedule,
        campaign_actions::approve,
        campaign_actions::pause,
        campaign_actions::resume,
        campaign_actions::cancel,
        trials::test,
        campaign_again::resolve,
        campaign_again::retry_failed,
        senders::list,
        senders::put,
        senders::list_providers,
        senders::open_provider,
        prices::list,
        prices::create,
        prices::delete,
        messages::send,
        messages::of_phone,
        messages::get,
        opt_out_page::show,
        opt_out_page::opt_out,
        webhooks::telnyx_webhook,
        webhooks::twilio_webhook,
    ];
    contacts.taking("/api/v1/contacts/imports", "multipart/form-data", imports::upload)
}

/// Contacts are nobody's in particular: whoever is bound to one supplier sees none.
fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require_reader(READ)
}

fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require_operator(WRITE)
}

/// What many contacts at once come to: more than a viewer is shown.
fn may_watch(caller: &Caller) -> Result<(), Problem> {
    caller.require_operator(READ)
}

/// What costs money, or changes many contacts at once, is for admins alone.
fn may_administer(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin])?;
    caller.require_scope(WRITE)
}

/// 200, of what stays in no cache: it is personal, or soon out of date.
fn uncached() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header(("Cache-Control", "no-store"));
    response
}

/// The name and the description of what is saved, without blanks around them.
fn named(name: &str, description: &str) -> Result<(String, String), Problem> {
    let (name, description) = (name.trim(), description.trim());
    let controls = |text: &str| text.chars().any(|letter| letter.is_control() && letter != '\n');
    if !(1..=120).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Problem::unprocessable("invalid_name", "name debe tener de 1 a 120 caracteres"));
    }
    if description.chars().count() > 2_000 || controls(description) {
        let detail = "description debe tener 2000 caracteres como máximo, sin caracteres de control";
        return Err(Problem::unprocessable("invalid_description", detail));
    }
    Ok((name.to_owned(), description.to_owned()))
}

/// Whether what a person could be reached by is hidden from the caller.
fn sees_masked(caller: &Caller) -> bool {
    caller.role() == Role::Viewer
}
