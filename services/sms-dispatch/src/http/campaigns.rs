//! Campaigns: kept, listed, and how far they are. What they are told to do is in [`super::campaign_actions`].

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::{Caller, Role},
    http::{
        Json, Query, Versioned, etag, in_range,
        page::{Cursor, Page, cut},
    },
};
use chrono::{DateTime, Utc};
use sea_orm::sqlx::{PgConnection, PgTransaction};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources,
    campaign_view::{CampaignView, MessageView, ProgressView},
    named, sees_masked, uncached,
};
use crate::{
    campaigns::{Refused, tell_creation},
    domain::{
        campaign::{Kind, Plan, State},
        message_state::MessageState,
    },
    settle::Open,
    storage::{
        audit,
        campaigns::{self, Campaign, CampaignValues},
        ledger, reports, totals,
    },
    texts::Texts,
};

const READ: &str = "campaigns:read";
const WRITE: &str = "campaigns:write";

/// Campaigns are nobody's in particular: whoever is bound to one supplier sees none.
pub(super) fn may_read(caller: &Caller) -> Result<(), Problem> {
    caller.require_reader(READ)
}

pub(super) fn may_write(caller: &Caller) -> Result<(), Problem> {
    caller.require_operator(WRITE)
}

/// Una campaña nueva, o una que cambia.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCampaign {
    name: String,
    #[serde(default)]
    description: String,
    kind: Kind,
    plan: Plan,
}

impl NewCampaign {
    fn values(self) -> Result<CampaignValues, Problem> {
        let (name, description) = named(&self.name, &self.description)?;
        let plan = self.plan.checked();
        let plan = plan.map_err(|error| Problem::unprocessable("invalid_plan", error.to_string()))?;
        Ok(CampaignValues { name, description, kind: self.kind, plan })
    }
}

/// Refuses a file that this campaign may not use, and texts that name what the audience has no value for.
async fn checked(conn: &mut PgConnection, values: &CampaignValues) -> Result<(), Problem> {
    let file = crate::campaigns::file(conn, &values.plan, values.kind).await.map_err(refused)?;
    let texts = Texts::of(&values.plan, file.as_ref());
    texts.map(drop).map_err(|error| Problem::unprocessable("invalid_text", error.to_string()))
}

pub(super) fn shown(status: StatusCode, campaign: Campaign) -> HttpResponse {
    HttpResponse::build(status).insert_header(etag(campaign.version)).json(CampaignView::from(campaign))
}

fn no_campaign(id: &str) -> Problem {
    Problem::not_found(format!("Campaña {id} no encontrada"))
}

/// Why a campaign was refused, as a problem.
pub(super) fn refused(error: Refused) -> Problem {
    match error {
        Refused::State(_) => Problem::conflict("campaign_state", error.to_string()),
        Refused::NeedsApproval(_) => Problem::conflict("needs_approval", error.to_string()),
        Refused::Other(error) => Problem::from(error),
        _ => Problem::unprocessable("invalid_plan", error.to_string()),
    }
}

/// A transaction in which the campaign is nobody else's, if it is as the caller read it.
pub(super) async fn locked(
    api: &Resources,
    Versioned { id, expected }: &Versioned,
) -> Result<(PgTransaction<'static>, Campaign), Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| no_campaign(id))?;
    let mut transaction = api.database.pool.begin().await?;
    let campaign = campaigns::lock(&mut transaction, uuid).await?.ok_or_else(|| no_campaign(id))?;
    let changed = || format!("La campaña {id} cambió desde que la leyó; léala de nuevo");
    expected.check(campaign.version, "campaign_changed", changed)?;
    Ok((transaction, campaign))
}

pub(super) async fn found(api: &Resources, id: &str) -> Result<Campaign, Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| no_campaign(id))?;
    campaigns::get(&api.database.pool, uuid).await?.ok_or_else(|| no_campaign(id))
}

fn is_draft(campaign: &Campaign) -> Result<(), Problem> {
    match campaign.state {
        State::Draft => Ok(()),
        other => Err(refused(Refused::State(other))),
    }
}

/// Keeps a new campaign.
#[utoipa::path(
    operation_id = "campaigns_create", summary = "Crear una campaña",
    description = "Nace como borrador; nada se envía hasta que se inicia.",
    post, path = "/api/v1/campaigns", tag = "campaigns", request_body = NewCampaign,
    responses((status = 201, body = CampaignView), (status = 422))
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewCampaign>) -> ApiResult {
    may_write(&caller)?;
    let values = body.into_inner().values()?;
    let mut transaction = api.database.pool.begin().await?;
    checked(&mut transaction, &values).await?;
    let campaign = campaigns::insert(&mut transaction, &values, caller.id()).await?;
    let (id, details) = (campaign.id.to_string(), json!({ "name": campaign.name, "plan": campaign.plan }));
    audit::record(&mut transaction, caller.id(), "campaign_created", Some(&id), &details).await?;
    tell_creation(&mut transaction, &campaign).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::CREATED, campaign))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// Solo las campañas en este estado.
    state: Option<State>,
    /// Campañas por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<String>,
}

/// The campaigns there are, newest first.
#[utoipa::path(
    operation_id = "campaigns_list", summary = "Listar campañas",
    description = "De la más reciente a la más antigua.",
    get, path = "/api/v1/campaigns", tag = "campaigns", params(ListQuery),
    responses((status = 200, body = Page<CampaignView>))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    may_read(&caller)?;
    let limit = in_range("limit", query.limit.unwrap_or(50), 1, 200)?;
    let before = Cursor::before("cursor", query.cursor.as_deref(), "next_cursor")?;
    let mut page = campaigns::list(&api.database.pool, query.state, before, limit + 1).await?;
    let next_cursor = cut(&mut page, limit, |last| Cursor { at: last.created_at, id: last.id }.to_string());
    let items = page.into_iter().map(CampaignView::from).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// A campaign.
#[utoipa::path(
    operation_id = "campaigns_get", summary = "Ver una campaña", description = "El ETag es su versión.",
    get, path = "/api/v1/campaigns/{id}", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 200, body = CampaignView))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    Ok(shown(StatusCode::OK, found(&api, &id).await?))
}

/// Another plan for a draft.
#[utoipa::path(
    operation_id = "campaigns_replace", summary = "Reemplazar una campaña",
    description = "Solo un borrador cambia; el cambio anula su aprobación.",
    put, path = "/api/v1/campaigns/{id}", tag = "campaigns",
    params(Versioned),
    request_body = NewCampaign,
    responses((status = 200, body = CampaignView), (status = 409, description = "No es un borrador"), (status = 412), (status = 422))
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<NewCampaign>,
) -> ApiResult {
    may_write(&caller)?;
    let values = body.into_inner().values()?;
    let (mut transaction, old) = locked(&api, &target).await?;
    is_draft(&old)?;
    checked(&mut transaction, &values).await?;
    let campaign = campaigns::replace(&mut transaction, old.id, &values, caller.id()).await?;
    let details = json!({ "name": campaign.name, "before": old.plan, "after": campaign.plan });
    audit::record(&mut transaction, caller.id(), "campaign_changed", Some(&target.id), &details).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, campaign))
}

/// Forgets a draft.
#[utoipa::path(
    operation_id = "campaigns_delete", summary = "Eliminar una campaña", description = "Solo un borrador.",
    delete, path = "/api/v1/campaigns/{id}", tag = "campaigns",
    params(Versioned),
    responses((status = 204), (status = 409, description = "No es un borrador"), (status = 412))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    may_write(&caller)?;
    let (mut transaction, old) = locked(&api, &target).await?;
    is_draft(&old)?;
    campaigns::delete(&mut transaction, old.id).await?;
    let details = json!({ "name": old.name, "plan": old.plan });
    audit::record(&mut transaction, caller.id(), "campaign_deleted", Some(&target.id), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// How far a campaign is.
#[utoipa::path(
    operation_id = "campaigns_progress", summary = "Ver el avance de una campaña",
    description = "Destinatarios, excluidos por motivo, mensajes por estado y lo que espera.",
    get, path = "/api/v1/campaigns/{id}/progress", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 200, body = ProgressView))
)]
pub(super) async fn progress(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let campaign = found(&api, &id).await?;
    let view = ProgressView::read(&api.database.pool, &api.sms, &campaign).await?;
    Ok(uncached().json(view))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct MessagesQuery {
    /// Solo los mensajes en este estado.
    state: Option<String>,
    /// Mensajes por página, de 1 a 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<i32>,
}

/// Una página de mensajes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessagePage {
    /// Menos que `limit`, o ninguno, si entre los de un estado hay muchas posiciones: siguen más mientras haya un
    /// `next_cursor`.
    items: Vec<MessageView>,
    next_cursor: Option<i32>,
}

/// Positions that one request looks at.
const MOST_LOOKED_AT: i32 = 200_000;

/// Whether a campaign has messages of a state, by its totals.
async fn any_of(
    conn: &mut PgConnection,
    campaign: i32,
    state: Option<MessageState>,
) -> Result<bool, Problem> {
    let Some(state) = state else { return Ok(true) };
    Ok(totals::count(conn, campaign, &[state], None, false).await? > 0)
}

/// A campaign's messages, in the order of their positions.
#[utoipa::path(
    operation_id = "campaigns_messages", summary = "Listar los mensajes de una campaña",
    description = "En el orden en que se escribieron; el texto se calcula, no se guarda.",
    get, path = "/api/v1/campaigns/{id}/messages", tag = "campaigns", params(("id" = String, Path), MessagesQuery),
    responses((status = 200, body = MessagePage))
)]
pub(super) async fn messages(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<MessagesQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let limit = in_range("limit", query.limit.unwrap_or(100), 1, 500)?;
    let state = query.state.as_deref().map(|name| {
        let unknown = || format!("state {name:?} no es un estado de mensaje, como pending o delivered");
        MessageState::parse(name).ok_or_else(|| Problem::bad_request("invalid_state", unknown()))
    });
    let state = state.transpose()?;
    let campaign = found(&api, &id).await?;
    let (number, pool) = (campaign.number, &api.database.pool);
    let Some(date) = campaign.date else {
        return Ok(HttpResponse::Ok().json(MessagePage { items: Vec::new(), next_cursor: None }));
    };
    let mut conn = pool.acquire().await?;
    if !ledger::has_day(&mut conn, date).await? || !any_of(&mut conn, number, state).await? {
        return Ok(HttpResponse::Ok().json(MessagePage { items: Vec::new(), next_cursor: None }));
    }
    // Of a state that few have a request looks at so many positions only: the next one goes on behind them.
    let after = query.cursor.unwrap_or(0).max(0);
    let until = after.saturating_add(MOST_LOOKED_AT);
    let last = ledger::last_position(&mut conn, date, number).await?;
    let mut page = ledger::page(&mut conn, date, number, state, (after, until), limit + 1).await?;
    drop(conn);
    let full = cut(&mut page, limit, |last| last.position);
    let next_cursor = full.or_else(|| (until < last).then_some(until));
    let open = Open::of(&campaign)?;
    let masked = sees_masked(&caller);
    let item = |row| {
        let text = open.text(&row);
        MessageView::of(row, date, number, Some(text), masked)
    };
    let items = page.into_iter().map(item).collect();
    Ok(uncached().json(MessagePage { items, next_cursor }))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct RepliesQuery {
    /// Respuestas por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<DateTime<Utc>>,
}

/// Lo que alguien respondió a una campaña.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplyView {
    phone: String,
    /// A cuál de nuestros números se envió.
    sender: String,
    text: String,
    received_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplyPage {
    items: Vec<ReplyView>,
    next_cursor: Option<DateTime<Utc>>,
}

/// What people answered to a campaign, newest first. For who may see phones: admins and operators.
#[utoipa::path(
    operation_id = "campaigns_replies", summary = "Listar las respuestas a una campaña",
    description = "Lo que no es una palabra clave, de la más reciente a la más antigua.",
    get, path = "/api/v1/campaigns/{id}/replies", tag = "campaigns", params(("id" = String, Path), RepliesQuery),
    responses((status = 200, body = ReplyPage))
)]
pub(super) async fn replies(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<RepliesQuery>,
) -> ApiResult {
    caller.require(&[Role::Admin, Role::Operator])?;
    may_read(&caller)?;
    let limit = in_range("limit", query.limit.unwrap_or(50), 1, 200)?;
    let campaign = found(&api, &id).await?;
    let mut page = reports::replies(&api.database.pool, campaign.number, query.cursor, limit + 1).await?;
    let next_cursor = cut(&mut page, limit, |last| last.received_at);
    let view = |reply: reports::Inbound| ReplyView {
        phone: reply.phone_e164,
        sender: reply.sender,
        text: reply.text,
        received_at: reply.received_at,
    };
    let items = page.into_iter().map(view).collect();
    Ok(uncached().json(ReplyPage { items, next_cursor }))
}
