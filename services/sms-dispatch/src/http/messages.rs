//! Single messages: one to one phone, before whatever waits in bulk; and what a phone was sent.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::{Caller, Role},
    http::{CrossSite, Json, Query, in_range, page::cut, request_id},
    idempotency::{IdempotencyKey, request_hash},
};
use chrono::{Days, TimeDelta, Utc};
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources, campaign_view::MessageView, campaigns::may_read, phone_searches, sees_masked, uncached,
};
use crate::{
    domain::{
        Phone, Reason,
        campaign::{FrozenSender, Kind},
        message_id::MessageId,
        normalise,
        parts::{Alphabet, MAX_PARTS},
        suppression::Cause,
    },
    settle::Open,
    singles::{Asked, Day, Message, NotTaken, keyed},
    storage::{
        audit, campaigns, ledger,
        singles::{self, Found},
        suppressions,
    },
};

const SEND: &str = "messages:send";

/// Characters of a text: more than ten parts of any alphabet have.
const LONGEST: usize = 1_600;
/// Seconds that a message may wait unless told: as long as providers queue.
const VALIDITY: u32 = 14_400;
const LONGEST_VALIDITY: u32 = 172_800;
/// Days that a phone's messages are looked for in.
const DAYS: u64 = 90;

pub(super) fn may_send(caller: &Caller) -> Result<(), Problem> {
    caller.require(&[Role::Admin, Role::Operator])?;
    caller.require_scope(SEND)
}

/// Un mensaje por enviar.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Un número de México, se escriba como se escriba.
    to: String,
    /// Tal como debe leerse: nada en él es un marcador.
    text: String,
    /// El único remitente que puede tener; null: uno de los que están en uso, de ser posible el que el teléfono ya conoce.
    #[serde(default)]
    sender: Option<String>,
    /// Cuántos segundos vale la pena enviarlo; si falta, 14400.
    #[serde(default)]
    #[schema(minimum = 10, maximum = 172800)]
    validity_seconds: Option<u32>,
}

/// El mensaje está guardado y se enviará.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageAccepted {
    id: Uuid,
    status_url: String,
}

impl MessageAccepted {
    pub(super) fn of(id: MessageId) -> Self {
        let id = id.uuid();
        Self { id, status_url: format!("/api/v1/messages/{id}") }
    }
}

pub(super) fn refused(error: NotTaken) -> Problem {
    match error {
        NotTaken::NoSenders => Problem::conflict("no_sender", error.to_string()),
        NotTaken::NoSender(_) => Problem::unprocessable("invalid_sender", error.to_string()),
        NotTaken::Job(error) => error.into(),
        NotTaken::Other(error) => Problem::from(error),
    }
}

/// A phone of a request, however it is written.
pub(super) fn phone(text: &str) -> Result<Phone, Problem> {
    let refused = |reason: Reason| Problem::unprocessable("invalid_phone", reason.message());
    normalise(text.as_bytes()).map(|found| found.phone).map_err(refused)
}

/// Refuses a phone that must not be written to by a campaign of this kind.
pub(super) async fn not_suppressed(conn: &mut PgConnection, phone: Phone, kind: Kind) -> Result<(), Problem> {
    let now = suppressions::now(conn).await?;
    let found = suppressions::of_phone(conn, &phone.to_string()).await?;
    let counts = |cause: Cause| kind == Kind::Marketing || !cause.stops_advertising_only();
    match found.iter().find(|one| one.effective_at <= now && counts(one.cause)) {
        None => Ok(()),
        Some(one) => {
            let detail = format!("A {} no se le escribe: {}", phone.masked(), one.cause.name());
            Err(Problem::conflict("suppressed", detail))
        }
    }
}

/// Refuses a text that none of the senders can send.
fn sendable(text: &str, sender: Option<&str>, senders: &[FrozenSender]) -> Result<(), Problem> {
    let may = senders.iter().filter(|known| sender.is_none_or(|wanted| known.address == wanted));
    let fits = |known: &FrozenSender| Alphabet::of(known.provider, known.kind).count(text).parts <= MAX_PARTS;
    if may.clone().count() > 0 && !may.clone().any(fits) {
        return Err(Problem::unprocessable("invalid_text", format!("text pasa de {MAX_PARTS} partes")));
    }
    Ok(())
}

/// Sends one message.
#[utoipa::path(
    operation_id = "messages_send", summary = "Enviar un mensaje",
    description = "Uno transaccional, antes que los de las campañas y a cualquier hora. Queda en la campaña del día.",
    post, path = "/api/v1/messages", tag = "messages", request_body = NewMessage,
    params(IdempotencyKey),
    responses(
        (status = 202, body = MessageAccepted),
        (status = 409, description = "El número no debe recibir mensajes, no hay remitentes, o Idempotency-Key ya usada con otra petición"),
        (status = 422),
    )
)]
pub(super) async fn send(
    api: Data<Resources>,
    caller: Caller,
    key: IdempotencyKey,
    body: Json<NewMessage>,
) -> ApiResult {
    may_send(&caller)?;
    let hash = request_hash(&[&serde_json::to_vec(&*body).map_err(Problem::internal)?]);
    let NewMessage { to, text, sender, validity_seconds } = body.into_inner();
    let to = phone(&to)?;
    let odd = |letter: char| letter.is_control() && letter != '\n';
    if text.trim().is_empty() || text.chars().count() > LONGEST || text.chars().any(odd) {
        let detail = format!("text debe tener de 1 a {LONGEST} caracteres, sin caracteres de control");
        return Err(Problem::unprocessable("invalid_text", detail));
    }
    let validity = validity_seconds.unwrap_or(VALIDITY);
    if !(10..=LONGEST_VALIDITY).contains(&validity) {
        let detail = format!("validity_seconds es {validity}; se espera de 10 a {LONGEST_VALIDITY}");
        return Err(Problem::unprocessable("invalid_validity", detail));
    }
    let now = Utc::now();
    let mut transaction = api.database.pool.begin().await?;
    if let Some(key) = &key.0
        && let Some(first) = keyed(&mut transaction, caller.id(), key, &hash).await.map_err(refused)?
    {
        return Ok(respond(first));
    }
    not_suppressed(&mut transaction, to, Kind::Transactional).await?;
    let mut day = Day::open(&mut transaction, &api.sms, now).await.map_err(refused)?;
    sendable(&text, sender.as_deref(), day.senders())?;
    let message = Message {
        to,
        text: &text,
        sender: sender.as_deref(),
        expires_at: now + TimeDelta::seconds(i64::from(validity)),
    };
    let asked = Asked { actor: caller.id(), key: key.0, hash: Some(hash), correlation: request_id() };
    let id = day.add(&mut transaction, &api.sms, &message, asked).await.map_err(refused)?;
    transaction.commit().await?;
    Ok(respond(id))
}

fn respond(id: MessageId) -> HttpResponse {
    let accepted = MessageAccepted::of(id);
    HttpResponse::Accepted().insert_header(("Location", accepted.status_url.clone())).json(accepted)
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct OfPhone {
    /// El teléfono, se escriba como se escriba.
    phone: String,
    /// Mensajes por página, de 1 a 100; si falta, 50.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<Uuid>,
}

/// Un mensaje, de cualquier campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundView {
    campaign_id: Uuid,
    campaign: String,
    #[serde(flatten)]
    message: MessageView,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundPage {
    items: Vec<FoundView>,
    next_cursor: Option<Uuid>,
}

/// The messages as their campaigns write them.
async fn viewed(conn: &mut PgConnection, found: Vec<Found>, masked: bool) -> Result<Vec<FoundView>, Problem> {
    let mut known = BTreeMap::new();
    let mut views = Vec::new();
    for Found { campaign: number, date, row } in found {
        if !known.contains_key(&number)
            && let Some(campaign) = campaigns::by_number(conn, number).await?
        {
            known.insert(number, (Open::of(&campaign)?, campaign));
        }
        let Some((open, campaign)) = known.get(&number) else { continue };
        let text = open.text(&row);
        views.push(FoundView {
            campaign_id: campaign.id,
            campaign: campaign.name.clone(),
            message: MessageView::of(row, date, number, Some(text), masked),
        });
    }
    Ok(views)
}

/// What a phone was sent in the last 90 days, the latest first. Viewers see neither phone nor texts.
#[utoipa::path(
    operation_id = "messages_of_phone", summary = "Listar los mensajes de un teléfono",
    description = "De cualquier campaña, en los últimos 90 días, del más reciente al más antiguo.",
    get, path = "/api/v1/messages", tag = "messages", params(OfPhone),
    responses(
        (status = 200, body = FoundPage), (status = 422, description = "No es un teléfono"),
        (status = 403, description = "El rol o el alcance no lo permite, o un viewer pregunta con una cookie y sin X-CSRF-Token"),
        (status = 429, description = "Su rol ya buscó todos los teléfonos que puede en una hora"),
    ),
    extensions(("x-csrf" = json!(true)))
)]
pub(super) async fn of_phone(
    api: Data<Resources>,
    caller: Caller,
    query: Query<OfPhone>,
    site: CrossSite,
) -> ApiResult {
    may_read(&caller)?;
    if sees_masked(&caller) {
        site.refuse()?;
    }
    let limit = in_range("limit", query.limit.unwrap_or(50), 1, 100)?;
    let phone = phone(&query.phone)?;
    match query.cursor {
        None => phone_searches::note(&api, &caller, phone).await?,
        Some(_) => phone_searches::turn_page(&api, &caller, phone).await?,
    }
    let phone = phone.to_string();
    let behind = query.cursor.map(|cursor| {
        let id = MessageId::parse(cursor).map(|id| (id.date, id.campaign, id.position));
        id.ok_or_else(|| Problem::bad_request("invalid_cursor", "cursor debe ser un next_cursor recibido"))
    });
    let today = Utc::now().date_naive();
    let since = today.checked_sub_days(Days::new(DAYS)).unwrap_or(today);
    let mut found =
        singles::of_phone(&api.database.pool, &phone, since, behind.transpose()?, limit + 1).await?;
    let next_cursor = cut(&mut found, limit, |last| last.row.id(last.date, last.campaign));
    let mut conn = api.database.pool.acquire().await?;
    let details = json!({ "messages": found.len() });
    audit::record(&mut conn, caller.id(), "messages_read", Some(&phone), &details).await?;
    let items = viewed(&mut conn, found, sees_masked(&caller)).await?;
    Ok(uncached().json(FoundPage { items, next_cursor }))
}

/// A message, single or of a campaign.
#[utoipa::path(
    operation_id = "messages_get", summary = "Ver un mensaje", description = "Individual o de una campaña.",
    get, path = "/api/v1/messages/{id}", tag = "messages", params(("id" = String, Path)),
    responses((status = 200, body = FoundView))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, text: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let unknown = || Problem::not_found(format!("Mensaje {text} no encontrado"));
    let id = Uuid::parse_str(&text).ok().and_then(MessageId::parse).ok_or_else(unknown)?;
    let mut conn = api.database.pool.acquire().await?;
    let row = ledger::get(&mut conn, id).await?.ok_or_else(unknown)?;
    let found = vec![Found { campaign: id.campaign, date: id.date, row }];
    let view = viewed(&mut conn, found, sees_masked(&caller)).await?.pop().ok_or_else(unknown)?;
    audit::record(&mut conn, caller.id(), "message_read", Some(&text), &json!({})).await?;
    Ok(uncached().json(view))
}
