//! What Bsale calls. It signs nothing, so that a secret in the path is what lets it in, and of what it says only which
//! resource it names counts. It is answered at once.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Bytes, Data, Path},
};
use chassis::{ApiResult, Problem, lock};
use jobs::NewJob;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Resources;
use crate::{
    bsale::webhook::{Notice, Resource},
    jobs::refetch_resource,
    metrics::WEBHOOKS,
    storage::runs,
};

/// The largest body, in bytes: Bsale's have some 200.
const LARGEST: usize = 64 << 10;

/// Something changed at Bsale.
#[utoipa::path(
    operation_id = "webhooks_bsale", summary = "Recibir un aviso de Bsale",
    description = "El secreto de la ruta es lo que autoriza; el recurso avisado se vuelve a leer.",
    post, path = "/webhooks/bsale/{secret}", tag = "etl", params(("secret" = String, Path)),
    request_body(content = String, content_type = "application/json"),
    responses((status = 202)),
    security(())
)]
pub(super) async fn receive(api: Data<Resources>, secret: Path<String>, body: Bytes) -> ApiResult {
    let refused = |problem: Problem| {
        WEBHOOKS.with_label_values(&["refused"]).inc();
        problem
    };
    let settings = api.bsale.as_ref().map(|bsale| &bsale.settings);
    let known = settings.and_then(|settings| settings.webhook_secret.as_ref());
    // Hashes, so that neither content nor length can be measured. Whoever does not know it learns nothing.
    let matches = known
        .is_some_and(|known| Sha256::digest(known.expose()).ct_eq(&Sha256::digest(secret.as_bytes())).into());
    if !matches {
        return Err(refused(Problem::of(StatusCode::NOT_FOUND)));
    }
    if body.len() > LARGEST {
        return Err(refused(Problem::of(StatusCode::PAYLOAD_TOO_LARGE)));
    }
    let unread = |what: &str| {
        refused(Problem::bad_request("invalid_webhook", format!("La notificación no es válida: {what}")))
    };
    let notice: Notice = serde_json::from_slice(&body).map_err(|_| unread("no es el JSON de Bsale"))?;
    let company = settings.and_then(|settings| settings.company);
    if company.is_some_and(|company| company != notice.cpn_id) {
        return Err(unread("cpnId"));
    }
    let resource = Resource::parse(&notice.resource).ok_or_else(|| unread("resource"))?;
    let accepted = enqueue(&api, &resource).await?;
    WEBHOOKS.with_label_values(&[if accepted { "accepted" } else { "repeated" }]).inc();
    Ok(HttpResponse::Accepted().finish())
}

/// A job that fetches the resource again, unless one waits already.
async fn enqueue(api: &Resources, resource: &Resource) -> Result<bool, Problem> {
    let path = resource.path();
    let mut transaction = api.database.pool.begin().await?;
    let conn = &mut *transaction;
    lock::hold(conn, &format!("resource {path}")).await?;
    if runs::refetch_waits(conn, &path).await? {
        return Ok(false);
    }
    let kind = refetch_resource::kind(&api.settings);
    let job = NewJob { params: json!({ "resource": path }), ..kind.job("bsale") };
    kind.create(conn, job, None).await.map_err(anyhow::Error::from)?;
    transaction.commit().await?;
    Ok(true)
}
