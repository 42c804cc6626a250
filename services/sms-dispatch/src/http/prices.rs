//! What parts cost: by provider and kind of sender, from one day on.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use chassis::{ApiResult, Problem, auth::Caller, http::Json};
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::America::Mexico_City;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Resources, campaigns::may_read, senders::may_configure};
use crate::{
    domain::{
        money::Money,
        sender::{ProviderName, SenderKind},
    },
    storage::{
        audit,
        prices::{self, Price, PriceValues},
    },
};

/// Un precio nuevo.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewPrice {
    provider: ProviderName,
    /// Null: todo tipo de remitente sin precio propio.
    #[serde(default)]
    kind: Option<SenderKind>,
    /// Si falta, hoy en la Ciudad de México.
    #[serde(default)]
    valid_from: Option<NaiveDate>,
    /// El último día; null: hasta que empiece otro.
    #[serde(default)]
    valid_until: Option<NaiveDate>,
    /// Lo que cuesta una parte a México, en millonésimas de `currency`.
    #[schema(minimum = 0)]
    price_micros: i64,
    /// ISO 4217: `USD`.
    currency: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PriceView {
    id: Uuid,
    provider: ProviderName,
    kind: Option<SenderKind>,
    valid_from: NaiveDate,
    valid_until: Option<NaiveDate>,
    price_micros: i64,
    currency: String,
    created_by: String,
    created_at: DateTime<Utc>,
}

impl From<Price> for PriceView {
    fn from(row: Price) -> Self {
        let Price { id, provider, kind, valid_from, valid_until, price_micros, currency, .. } = row;
        let (created_by, created_at) = (row.created_by, row.created_at);
        Self { id, provider, kind, valid_from, valid_until, price_micros, currency, created_by, created_at }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Prices {
    items: Vec<PriceView>,
}

fn today() -> NaiveDate {
    Utc::now().with_timezone(&Mexico_City).date_naive()
}

/// The prices there are, those that have ended too.
#[utoipa::path(
    operation_id = "prices_list", summary = "Listar precios",
    description = "Por proveedor y tipo de remitente, del más reciente al más antiguo.",
    get, path = "/api/v1/sms/prices", tag = "campaigns", responses((status = 200, body = Prices))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let items = prices::list(&api.database.pool).await?.into_iter().map(PriceView::from).collect();
    Ok(HttpResponse::Ok().json(Prices { items }))
}

/// Keeps a price. It holds for campaigns that start from its first day on; what started keeps its own.
#[utoipa::path(
    operation_id = "prices_create", summary = "Guardar un precio",
    description = "Vale para las campañas que inicien desde su primer día; las ya iniciadas conservan el suyo. El precio propio de un remitente va antes.",
    post, path = "/api/v1/sms/prices", tag = "campaigns", request_body = NewPrice,
    responses(
        (status = 201, body = PriceView), (status = 409, description = "Ya hay uno que empieza ese día"),
        (status = 422),
    )
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewPrice>) -> ApiResult {
    may_configure(&caller)?;
    let NewPrice { provider, kind, valid_from, valid_until, price_micros, currency } = body.into_inner();
    let invalid = |detail: &str| Problem::unprocessable("invalid_price", detail);
    let valid_from = valid_from.unwrap_or_else(today);
    if valid_until.is_some_and(|until| until < valid_from) {
        return Err(invalid("valid_until es anterior a valid_from"));
    }
    if price_micros < 0 {
        return Err(invalid("price_micros debe ser 0 o mayor"));
    }
    let currency = Money::code(&currency).ok_or_else(|| invalid("currency se escribe como USD"))?;
    let price = Money { micros: price_micros, currency };
    let values = PriceValues { provider, kind, valid_from, valid_until, price };
    let mut transaction = api.database.pool.begin().await?;
    let kept = prices::insert(&mut transaction, &values, caller.id()).await?;
    let kept = kept.ok_or_else(|| {
        let detail = format!("Ya hay un precio de {} que empieza el {valid_from}", provider.name());
        Problem::conflict("duplicate_price", detail)
    })?;
    let (id, view) = (kept.id.to_string(), PriceView::from(kept));
    audit::record(&mut transaction, caller.id(), "sms_price_kept", Some(&id), &json!(view)).await?;
    transaction.commit().await?;
    Ok(HttpResponse::build(StatusCode::CREATED).json(view))
}

/// Takes a price away that has not begun. One that has begun stays: campaigns may have it. A later one ends it.
#[utoipa::path(
    operation_id = "prices_delete", summary = "Eliminar un precio",
    description = "Solo el que aún no empieza; al que ya empezó lo termina otro posterior.",
    delete, path = "/api/v1/sms/prices/{id}", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 204), (status = 409, description = "Ya empezó"))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_configure(&caller)?;
    let unknown = || Problem::not_found(format!("Precio {id} no encontrado"));
    let uuid = Uuid::parse_str(&id).map_err(|_| unknown())?;
    let mut transaction = api.database.pool.begin().await?;
    let Some(gone) = prices::delete_future(&mut transaction, uuid, today()).await? else {
        return Err(match prices::exists(&mut transaction, uuid).await? {
            true => Problem::conflict("price_has_begun", "El precio ya empezó; guarde otro posterior"),
            false => unknown(),
        });
    };
    let details = json!(PriceView::from(gone));
    audit::record(&mut transaction, caller.id(), "sms_price_deleted", Some(&id), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
