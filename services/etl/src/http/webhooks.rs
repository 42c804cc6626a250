//! What Bsale calls. It signs nothing, so that a secret in the path is what lets it in, and of what it says only which
//! resource it names counts. It is answered at once.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{self, Bytes, Data, Path, ServiceConfig},
};
use chassis::Problem;
use contracts::etl::v1::RefetchResource;
use jobs::NewJob;
use outbox::Meta;
use sea_orm::sqlx;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::Resources;
use crate::{
    SERVICE,
    bsale::webhook::{Notice, Resource},
    jobs::refetch_resource::KIND,
    metrics::WEBHOOKS,
};

/// The largest body, in bytes: Bsale's have some 200.
const LARGEST: usize = 64 << 10;

pub fn configure(config: &mut ServiceConfig) {
    config.service(
        web::resource("/webhooks/bsale/{secret}")
            .app_data(web::PayloadConfig::new(LARGEST))
            .route(web::post().to(receive)),
    );
}

/// Something changed at Bsale.
#[utoipa::path(
    post, path = "/webhooks/bsale/{secret}", tag = "etl", params(("secret" = String, Path)),
    request_body(content = String, content_type = "application/json"),
    responses((status = 202), (status = 400), (status = 404), (status = 413)),
)]
pub(super) async fn receive(
    api: Data<Resources>,
    secret: Path<String>,
    body: Bytes,
) -> Result<HttpResponse, Problem> {
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
    sqlx::query("select pg_advisory_xact_lock(hashtextextended(current_schema() || ' resource ' || $1, 0))")
        .bind(&path)
        .execute(&mut *conn)
        .await?;
    // One that has been begun may have asked already.
    let waits: bool = sqlx::query_scalar(
        "select exists (select from jobs where kind = 'etl.webhooks' and state = 'pending' and started_at is null
                        and params ->> 'resource' = $1)",
    )
    .bind(&path)
    .fetch_one(&mut *conn)
    .await?;
    if waits {
        return Ok(false);
    }
    let job = NewJob {
        id: Uuid::now_v7(),
        params: json!({ "resource": path }),
        ..NewJob::plain(KIND, "bsale", api.settings.max_attempts)
    };
    let id = job.id;
    jobs::create(conn, job).await.map_err(anyhow::Error::from)?;
    let message = RefetchResource { job_id: id.to_string() };
    outbox::publish(conn, SERVICE, &message, Meta::about(id)).await.map_err(anyhow::Error::from)?;
    transaction.commit().await?;
    Ok(true)
}
