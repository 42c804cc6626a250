//! Senders and providers: in whose name messages go out, through whom, and at which price.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::{Caller, Role},
    http::Json,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{Resources, campaigns::may_read};
use crate::{
    domain::sender::{ProviderName, SenderKind},
    storage::{
        audit, providers,
        senders::{self, Sender, SenderValues},
    },
};

/// It decides what is paid: only admins change it.
pub(super) fn may_configure(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin])?;
    caller.require_scope("campaigns:write")
}

/// Lo que de un remitente se decide aquí.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSender {
    provider: ProviderName,
    kind: SenderKind,
    /// Partes por segundo.
    per_second: f64,
    /// Lo que cuesta una parte, en millonésimas de `currency`.
    #[serde(default)]
    price_micros: Option<i64>,
    /// ISO 4217: `USD`.
    #[serde(default)]
    currency: Option<String>,
    #[serde(default = "yes")]
    enabled: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SenderView {
    address: String,
    provider: ProviderName,
    kind: SenderKind,
    per_second: f64,
    price_micros: Option<i64>,
    currency: Option<String>,
    enabled: bool,
    version: i64,
    updated_at: DateTime<Utc>,
}

impl From<Sender> for SenderView {
    fn from(row: Sender) -> Self {
        let Sender { address, provider, kind, per_second, price_micros, currency, enabled, .. } = row;
        let (version, updated_at) = (row.version, row.updated_at);
        Self { address, provider, kind, per_second, price_micros, currency, enabled, version, updated_at }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Senders {
    items: Vec<SenderView>,
}

/// The senders there are.
#[utoipa::path(
    operation_id = "senders_list", summary = "Listar remitentes", description = "Con su ritmo y su precio por parte.",
    get, path = "/api/v1/sms/senders", tag = "campaigns", responses((status = 200, body = Senders))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let items = senders::list(&api.database.pool).await?.into_iter().map(SenderView::from).collect();
    Ok(HttpResponse::Ok().json(Senders { items }))
}

/// Keeps a sender, or changes it.
#[utoipa::path(
    operation_id = "senders_put", summary = "Guardar un remitente",
    description = "Las campañas ya iniciadas conservan el precio con que iniciaron.",
    put, path = "/api/v1/sms/senders/{address}", tag = "campaigns", params(("address" = String, Path)), request_body = NewSender,
    responses(
        (status = 200, body = SenderView), (status = 409, description = "El proveedor no está configurado"),
        (status = 422),
    )
)]
pub(super) async fn put(
    api: Data<Resources>,
    caller: Caller,
    address: Path<String>,
    body: Json<NewSender>,
) -> ApiResult {
    may_configure(&caller)?;
    let NewSender { provider, kind, per_second, price_micros, currency, enabled } = body.into_inner();
    let address = address.into_inner();
    let invalid = |detail: &str| Problem::unprocessable("invalid_sender", detail);
    if !(1..=64).contains(&address.chars().count()) || address.chars().any(|c| c.is_control()) {
        return Err(invalid("address debe tener de 1 a 64 caracteres"));
    }
    if !(per_second.is_finite() && per_second > 0.0 && per_second <= 10_000.0) {
        return Err(invalid("per_second debe ser mayor que 0 y hasta 10000"));
    }
    let price = match (price_micros, currency) {
        (None, None) => None,
        (Some(price), Some(currency))
            if price >= 0 && currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase()) =>
        {
            Some((price, currency))
        }
        _ => return Err(invalid("price_micros y currency van juntos; currency como USD")),
    };
    let mut transaction = api.database.pool.begin().await?;
    let known = providers::list(&chassis::db::Orm::on(&mut transaction)).await?;
    if !known.iter().any(|one| one.name == provider) {
        let detail = format!("El proveedor {} no está configurado", provider.name());
        return Err(Problem::conflict("no_provider", detail));
    }
    let values = SenderValues { address, provider, kind, per_second, price, enabled };
    let kept = senders::put(&mut transaction, &values, caller.id()).await?;
    let details =
        json!({ "provider": provider, "kind": kind, "price_micros": kept.price_micros, "enabled": enabled });
    audit::record(&mut transaction, caller.id(), "sms_sender_kept", Some(&kept.address), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::Ok().json(SenderView::from(kept)))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderView {
    name: ProviderName,
    per_second: f64,
    /// Desde cuándo y por qué no se le pide nada; null mientras está abierto.
    closed_at: Option<DateTime<Utc>>,
    closed_reason: Option<String>,
    opens_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Providers {
    items: Vec<ProviderView>,
}

/// The providers that are configured.
#[utoipa::path(
    operation_id = "providers_list", summary = "Listar proveedores de SMS", description = "Y si aceptan mensajes ahora.",
    get, path = "/api/v1/sms/providers", tag = "campaigns", responses((status = 200, body = Providers))
)]
pub(super) async fn list_providers(api: Data<Resources>, caller: Caller) -> ApiResult {
    may_read(&caller)?;
    let view = |row: providers::Provider| ProviderView {
        name: row.name,
        per_second: row.per_second,
        closed_at: row.closed_at,
        closed_reason: row.closed_reason,
        opens_at: row.opens_at,
    };
    let items = providers::list(&api.database.orm).await?.into_iter().map(view).collect();
    Ok(HttpResponse::Ok().json(Providers { items }))
}

/// Opens a provider that was closed: there is credit again, or another key.
#[utoipa::path(
    operation_id = "providers_open", summary = "Abrir un proveedor de SMS",
    description = "Cuando ya hay saldo u otra clave; los mensajes que esperaban salen.",
    post, path = "/api/v1/sms/providers/{name}/open", tag = "campaigns", params(("name" = String, Path)),
    responses((status = 204))
)]
pub(super) async fn open_provider(api: Data<Resources>, caller: Caller, name: Path<String>) -> ApiResult {
    may_configure(&caller)?;
    let unknown = || Problem::not_found(format!("Proveedor {name} no encontrado"));
    let provider = ProviderName::parse(&name).ok_or_else(unknown)?;
    let mut transaction = api.database.pool.begin().await?;
    let known = providers::list(&chassis::db::Orm::on(&mut transaction)).await?;
    if !known.iter().any(|one| one.name == provider) {
        return Err(unknown());
    }
    providers::open(&mut transaction, Some(provider)).await?;
    audit::record(&mut transaction, caller.id(), "sms_provider_opened", Some(provider.name()), &json!({}))
        .await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}
