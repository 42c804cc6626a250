//! How a test tells the provider to misbehave, and asks what it did.

use std::collections::HashMap;
use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::faults::{Fate, Faults};
use super::state::digits;
use super::truth::Accepted;
use super::{Shared, inbound};

pub(super) async fn faults(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(&shared.state().faults)
}

/// Replaces all; what is left out is off.
pub(super) async fn set_faults(faults: web::Json<Faults>, shared: web::Data<Shared>) -> HttpResponse {
    shared.state().set_faults(faults.into_inner());
    HttpResponse::NoContent().finish()
}

/// Statuses and codes of the next submissions: `[[429, 10011], [500, 0]]`.
pub(super) async fn order(answers: web::Json<Vec<(u16, u32)>>, shared: web::Data<Shared>) -> HttpResponse {
    shared.state().ordered.extend(answers.into_inner());
    HttpResponse::NoContent().finish()
}

/// What becomes of messages to phones: `{"+52…": "landline"}`.
pub(super) async fn fates(
    fates: web::Json<HashMap<String, Fate>>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let fates = fates.into_inner().into_iter().filter_map(|(phone, fate)| Some((digits(&phone)?, fate)));
    shared.state().fates.extend(fates);
    HttpResponse::NoContent().finish()
}

#[derive(Deserialize)]
pub(super) struct Written {
    from: String,
    to: String,
    text: String,
    /// Where the provider reports inbound messages to.
    url: String,
    /// Given to deliver the same message again.
    id: Option<Uuid>,
}

/// Someone writes to one of our numbers.
pub(super) async fn write(written: web::Json<Written>, shared: web::Data<Shared>) -> HttpResponse {
    let Written { from, to, text, url, id } = written.into_inner();
    let id = id.unwrap_or_else(Uuid::new_v4);
    inbound(&shared.into_inner(), from, to, text, url, id);
    HttpResponse::Accepted().json(json!({ "id": id }))
}

pub(super) async fn summary(shared: web::Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().json(shared.state().summary())
}

#[derive(Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    from: usize,
    #[serde(default = "many")]
    limit: usize,
}

fn many() -> usize {
    10_000
}

/// What was accepted, in order, a page at a time.
pub(super) async fn accepted(range: web::Query<Range>, shared: web::Data<Shared>) -> HttpResponse {
    let Range { from, limit } = range.into_inner();
    HttpResponse::Ok().json(accepted_from(&shared, from, limit))
}

pub(super) fn accepted_from(shared: &Shared, from: usize, limit: usize) -> Vec<Accepted> {
    let state = shared.state();
    (from..state.messages.len()).take(limit).filter_map(|number| state.read(number)).collect()
}

/// Forgets all messages and opt-outs; faults stay.
pub(super) async fn forget(shared: web::Data<Shared>) -> HttpResponse {
    forget_all(&shared);
    HttpResponse::NoContent().finish()
}

pub(super) fn forget_all(shared: &Shared) {
    let mut state = shared.state();
    let faults = state.faults.clone();
    *state = super::state::State::new();
    state.set_faults(faults);
}

/// For the handlers' data, which is shared with webhooks under way.
pub(super) fn data(shared: &Arc<Shared>) -> web::Data<Shared> {
    web::Data::from(Arc::clone(shared))
}
