//! What is known against writing to a phone.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{CrossSite, Query},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{Resources, may_read, may_write, phone_searches, sees_masked, uncached, view};
use crate::{
    domain::{Phone, normalise, suppression::Cause},
    storage::{
        audit,
        suppressions::{self, Suppression},
    },
};

/// Un teléfono, y lo que se sabe en contra de escribirle.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Suppressions {
    phone_e164: String,
    /// Si ahora no se le debe escribir.
    suppressed: bool,
    items: Vec<SuppressionView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SuppressionView {
    reason: Cause,
    effective_at: DateTime<Utc>,
    source: String,
    created_by: Option<String>,
    created_at: DateTime<Utc>,
}

impl From<Suppression> for SuppressionView {
    fn from(suppression: Suppression) -> Self {
        let Suppression { cause, effective_at, source, created_by, created_at, .. } = suppression;
        Self { reason: cause, effective_at, source, created_by, created_at }
    }
}

fn phone(text: &str) -> Result<Phone, Problem> {
    let found = normalise(text.as_bytes());
    let refused = |reason: crate::domain::Reason| Problem::bad_request("invalid_phone", reason.message());
    found.map(|found| found.phone).map_err(refused)
}

fn none() -> Problem {
    Problem::not_found("El teléfono no tiene supresiones")
}

/// What is known against writing to a phone, in any spelling.
#[utoipa::path(
    operation_id = "suppressions_get", summary = "Ver las supresiones de un teléfono",
    description = "Escrito de cualquier forma. Un viewer pregunta solo por unos pocos por hora; con una sesión de cookie necesita X-CSRF-Token, aunque sea un GET.",
    get, path = "/api/v1/suppressions/{phone}", tag = "contacts",
    params(("phone" = String, Path)),
    responses(
        (status = 200, body = Suppressions),
        (status = 403, description = "El rol o el alcance no lo permite, o un viewer pregunta con una cookie y sin X-CSRF-Token"),
        (status = 429),
    ),
    extensions(("x-csrf" = json!(true)))
)]
pub(super) async fn get(
    api: Data<Resources>,
    caller: Caller,
    text: Path<String>,
    site: CrossSite,
) -> ApiResult {
    may_read(&caller)?;
    let phone = phone(&text)?;
    if sees_masked(&caller) {
        site.refuse()?;
    }
    phone_searches::note(&api, &caller, phone).await?;
    let mut conn = api.database.pool.acquire().await?;
    let now = suppressions::now(&mut conn).await?;
    let found = suppressions::of_phone(&mut conn, &phone.to_string()).await?;
    let subject = phone.to_string();
    audit::record(&mut conn, caller.id(), "suppression_read", Some(&subject), &json!({})).await?;
    if found.is_empty() {
        return Err(none());
    }
    Ok(uncached().json(Suppressions {
        phone_e164: view::phone(&subject, sees_masked(&caller)),
        suppressed: found.iter().any(|one| one.effective_at <= now),
        items: found.into_iter().map(SuppressionView::from).collect(),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct DeleteQuery {
    /// Solo por este motivo: `opt_out`, `repep`, `reus` o `manual`. Todos si falta.
    reason: Option<Cause>,
}

/// A phone may be written to again, as far as these suppressions are concerned.
#[utoipa::path(
    operation_id = "suppressions_delete", summary = "Quitar las supresiones de un teléfono",
    description = "Todas, o las de un motivo.",
    delete, path = "/api/v1/suppressions/{phone}", tag = "contacts",
    params(("phone" = String, Path), DeleteQuery),
    responses((status = 204))
)]
pub(super) async fn delete(
    api: Data<Resources>,
    caller: Caller,
    text: Path<String>,
    query: Query<DeleteQuery>,
) -> ApiResult {
    may_write(&caller)?;
    let phone = phone(&text)?.to_string();
    let causes = query.reason.map_or(Cause::ALL.to_vec(), |cause| vec![cause]);
    let mut transaction = api.database.pool.begin().await?;
    suppressions::turn(&mut transaction).await?;
    let removed = suppressions::remove(&mut transaction, &phone, &causes).await?;
    if removed == 0 {
        return Err(none());
    }
    let names: Vec<_> = causes.iter().map(|cause| cause.name()).collect();
    let details = json!({ "reasons": names, "removed": removed });
    audit::record(&mut transaction, caller.id(), "suppression_deleted", Some(&phone), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
