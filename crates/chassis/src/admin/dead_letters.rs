use actix_web::web::{Data, Path};
use chrono::{DateTime, Utc};
use outbox::dead_letters::{self as archive, Filter, LetterState, Page, Selection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Context, READ, WRITE, operators_only};
use crate::{
    Problem,
    auth::{Caller, Role},
    http::{ApiResult, Json, Query},
};

/// El estado de un mensaje muerto.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what another crate's type is written as")]
enum LetterStateName {
    Open,
    Replayed,
    Discarded,
}

/// Un mensaje que no se pudo procesar.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetter {
    /// Su id en el archivo.
    id: Uuid,
    /// La cola en la que falló.
    queue: String,
    /// El id del mensaje, el mismo de los registros y las trazas.
    message_id: Option<Uuid>,
    /// El tipo del mensaje.
    kind: Option<String>,
    /// Por qué, en una palabra.
    reason: String,
    /// El último error con sus causas.
    error: String,
    /// Cuántas veces se intentó.
    attempts: i32,
    first_failed_at: Option<DateTime<Utc>>,
    failed_at: DateTime<Utc>,
    archived_at: DateTime<Utc>,
    /// De dónde viene, según el broker.
    origin: String,
    /// `open`, `replayed` o `discarded`.
    #[schema(value_type = LetterStateName)]
    state: &'static str,
    /// Si se puede reenviar.
    replayable: bool,
    replayed_at: Option<DateTime<Utc>>,
    replay_count: i32,
    /// Quién lo reenvió o descartó.
    resolved_by: Option<String>,
    resolved_at: Option<DateTime<Utc>>,
    /// Tamaño del mensaje en bytes.
    body_bytes: usize,
    /// El mensaje como era: para administradores, y solo cuando se pide uno.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

impl DeadLetter {
    fn without_body(letter: archive::DeadLetter) -> Self {
        Self {
            id: letter.id,
            queue: letter.queue,
            message_id: letter.message_id,
            kind: letter.kind,
            reason: letter.reason,
            error: letter.error,
            attempts: letter.attempts,
            first_failed_at: letter.first_failed_at,
            failed_at: letter.failed_at,
            archived_at: letter.archived_at,
            origin: letter.origin,
            state: letter.state.name(),
            replayable: letter.decodable,
            replayed_at: letter.replayed_at,
            replay_count: letter.replay_count,
            resolved_by: letter.resolved_by,
            resolved_at: letter.resolved_at,
            body_bytes: usize::try_from(letter.body_bytes).unwrap_or_default(),
            body: None,
        }
    }

    fn with_body(mut letter: archive::DeadLetter) -> Self {
        let body = letter.body.take();
        Self { body, ..Self::without_body(letter) }
    }
}

/// Una página, del fallo más reciente al más antiguo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterPage {
    items: Vec<DeadLetter>,
    /// Se envía como `after` para pedir la página siguiente; falta en la última.
    next: Option<String>,
}

/// Qué mensajes. Se debe cumplir todo lo que se indica.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LetterFilter {
    /// El nombre de la cola.
    queue: Option<String>,
    /// El tipo del mensaje.
    kind: Option<String>,
    /// Texto que aparece en el motivo o en el error.
    reason: Option<String>,
    /// `open`, `replayed` o `discarded`. Reenviar y descartar solo tocan los abiertos.
    #[schema(value_type = Option<LetterStateName>)]
    state: Option<LetterState>,
    /// Fallaron en este momento o después.
    from: Option<DateTime<Utc>>,
    /// Fallaron antes de este momento.
    to: Option<DateTime<Utc>>,
}

impl From<LetterFilter> for Filter {
    fn from(filter: LetterFilter) -> Self {
        let LetterFilter { queue, kind, reason, state, from, to } = filter;
        Self { queue, kind, reason, state, from, to }
    }
}

/// Which letters, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// El nombre de la cola.
    queue: Option<String>,
    /// El tipo del mensaje.
    kind: Option<String>,
    /// Texto que aparece en el motivo o en el error.
    reason: Option<String>,
    /// `open`, `replayed` o `discarded`.
    #[param(value_type = Option<LetterStateName>)]
    state: Option<LetterState>,
    /// Fallaron en este momento o después.
    from: Option<DateTime<Utc>>,
    /// Fallaron antes de este momento.
    to: Option<DateTime<Utc>>,
    /// El `next` de la página anterior.
    after: Option<String>,
    /// Mensajes por página, de 1 a 200; 50 si falta.
    #[serde(default)]
    size: u32,
}

/// Lists the service's dead letters, without what they say.
#[utoipa::path(
    operation_id = "dead_letters_list", summary = "Listar mensajes muertos",
    description = "Sin lo que dicen, del fallo más reciente al más antiguo.",
    get, path = "/dead-letters", tag = "admin",
    params(ListQuery),
    responses((status = 200, body = DeadLetterPage))
)]
pub(super) async fn list(
    caller: Caller,
    context: Data<Context>,
    query: Query<ListQuery>,
) -> ApiResult<Json<DeadLetterPage>> {
    operators_only(&caller, READ)?;
    let ListQuery { queue, kind, reason, state, from, to, after, size } = query.into_inner();
    let filter = Filter { queue, kind, reason, state, from, to };
    let page = archive::list(&context.pool, &filter, &Page { after, size }).await.map_err(database)?;
    let items = page.items.into_iter().map(DeadLetter::without_body).collect();
    Ok(Json(DeadLetterPage { items, next: page.next }))
}

/// Shows one dead letter; to admins with the message itself.
#[utoipa::path(
    operation_id = "dead_letters_get", summary = "Ver un mensaje muerto",
    description = "A los administradores, con el mensaje.",
    get, path = "/dead-letters/{id}", tag = "admin",
    params(("id" = Uuid, Path, description = "El id en el archivo")),
    responses((status = 200, body = DeadLetter))
)]
pub(super) async fn get(
    caller: Caller,
    context: Data<Context>,
    id: Path<Uuid>,
) -> ApiResult<Json<DeadLetter>> {
    operators_only(&caller, READ)?;
    let letter = archive::get(&context.pool, *id)
        .await
        .map_err(database)?
        .ok_or_else(|| Problem::not_found(format!("Mensaje muerto {id} no encontrado")))?;
    // What a message says may be personal: an operator decides by type, reason and error.
    let shown = match caller.role() {
        Role::Admin => DeadLetter::with_body(letter),
        _ => DeadLetter::without_body(letter),
    };
    Ok(Json(shown))
}

/// Qué mensajes reenviar o descartar: `ids` o `filter`, no ambos. Un filtro vacío son todos los abiertos.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decision {
    /// Ids del archivo, de 1 a 1000.
    ids: Option<Vec<Uuid>>,
    filter: Option<LetterFilter>,
    /// Solo decir qué pasaría: `true` si no se indica otra cosa.
    #[serde(default = "only_say")]
    #[schema(default = true)]
    dry_run: bool,
}

const fn only_say() -> bool {
    true
}

impl Decision {
    fn selection(self) -> Result<Selection, Problem> {
        match (self.ids, self.filter) {
            (Some(ids), None) if (1..=1000).contains(&ids.len()) => Ok(Selection::Ids(ids)),
            (Some(_), None) => {
                Err(Problem::bad_request("invalid_selection", "ids debe tener entre 1 y 1000 elementos"))
            }
            (None, Some(filter)) if filter.state.is_none_or(|state| state == LetterState::Open) => {
                Ok(Selection::Filter(filter.into()))
            }
            (None, Some(_)) => Err(Problem::bad_request(
                "invalid_selection",
                "Solo se reenvían o descartan mensajes abiertos: filter.state debe ser open o faltar",
            )),
            _ => Err(Problem::bad_request("invalid_selection", "Indique ids o filter, uno de los dos")),
        }
    }
}

/// Lo que hizo, o haría, un reenvío o descarte.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcome {
    dry_run: bool,
    /// Mensajes abiertos de los que se trata.
    matched: i64,
    /// Mensajes reenviados o descartados; 0 en una simulación.
    changed: i64,
    /// Mensajes que no se pueden reenviar porque su sobre no se entiende.
    undecodable: i64,
    /// De qué fallaron, lo más común primero, 100 como máximo.
    reasons: Vec<Cause>,
}

/// Mensajes con la misma cola, tipo y motivo.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cause {
    queue: String,
    kind: Option<String>,
    reason: String,
    /// Uno de sus errores.
    error: String,
    count: i64,
}

impl From<archive::Report> for Outcome {
    fn from(report: archive::Report) -> Self {
        let reasons = report.reasons.into_iter().map(|reason| {
            let archive::Reason { queue, kind, reason, error, count } = reason;
            Cause { queue, kind, reason, error, count }
        });
        Self {
            dry_run: report.dry_run,
            matched: report.matched,
            changed: report.changed,
            undecodable: report.undecodable,
            reasons: reasons.collect(),
        }
    }
}

/// Sends open dead letters back to their queue.
#[utoipa::path(
    operation_id = "dead_letters_replay", summary = "Reenviar mensajes muertos",
    description = "Los abiertos, a su cola. Solo dice qué haría, salvo con `dry_run: false`.",
    post, path = "/dead-letters/replay", tag = "admin",
    request_body = Decision,
    responses((status = 200, body = Outcome))
)]
pub(super) async fn replay(
    caller: Caller,
    context: Data<Context>,
    decision: Json<Decision>,
) -> ApiResult<Json<Outcome>> {
    operators_only(&caller, WRITE)?;
    let dry_run = decision.dry_run;
    let selection = decision.into_inner().selection()?;
    let report = archive::replay(&context.pool, &selection, caller.id(), dry_run).await.map_err(database)?;
    tracing::info!(
        actor = caller.id(),
        dry_run,
        matched = report.matched,
        changed = report.changed,
        "dead letters replayed"
    );
    Ok(Json(report.into()))
}

/// Closes open dead letters without sending them.
#[utoipa::path(
    operation_id = "dead_letters_discard", summary = "Descartar mensajes muertos",
    description = "Cierra los abiertos sin enviarlos. Solo dice qué haría, salvo con `dry_run: false`.",
    post, path = "/dead-letters/discard", tag = "admin",
    request_body = Decision,
    responses((status = 200, body = Outcome))
)]
pub(super) async fn discard(
    caller: Caller,
    context: Data<Context>,
    decision: Json<Decision>,
) -> ApiResult<Json<Outcome>> {
    operators_only(&caller, WRITE)?;
    let dry_run = decision.dry_run;
    let selection = decision.into_inner().selection()?;
    let report = archive::discard(&context.pool, &selection, caller.id(), dry_run).await.map_err(database)?;
    tracing::info!(
        actor = caller.id(),
        dry_run,
        matched = report.matched,
        changed = report.changed,
        "dead letters discarded"
    );
    Ok(Json(report.into()))
}

/// Quién reenvió o descartó qué.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditLine {
    id: i64,
    at: DateTime<Utc>,
    actor: String,
    /// `replay` o `discard`.
    action: String,
    /// La selección.
    #[schema(value_type = Object)]
    filter: Value,
    dry_run: bool,
    matched: i64,
    changed: i64,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// El último id de la página anterior.
    before: Option<i64>,
    /// Líneas, de 1 a 200; 50 si falta.
    size: Option<u32>,
}

/// Lists who replayed or discarded what, newest first.
#[utoipa::path(
    operation_id = "dead_letters_audit", summary = "Ver quién reenvió o descartó mensajes",
    description = "Lo más reciente primero.",
    get, path = "/dead-letters/audit", tag = "admin",
    params(AuditQuery),
    responses((status = 200, body = [AuditLine]))
)]
pub(super) async fn audit(
    caller: Caller,
    context: Data<Context>,
    query: Query<AuditQuery>,
) -> ApiResult<Json<Vec<AuditLine>>> {
    operators_only(&caller, READ)?;
    let entries =
        archive::audit(&context.pool, query.before, query.size.unwrap_or(50)).await.map_err(database)?;
    let lines = entries.into_iter().map(|entry| {
        let archive::AuditEntry { id, at, actor, action, filter, dry_run, matched, count } = entry;
        AuditLine { id, at, actor, action, filter, dry_run, matched, changed: count }
    });
    Ok(Json(lines.collect()))
}

pub(super) fn database(error: outbox::Error) -> Problem {
    anyhow::Error::from(error).into()
}
