//! Segments: saved, listed, and what they come to.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        Json, Query, Versioned, etag, in_range,
        page::{Cursor, Page, cut},
    },
};
use chrono::{DateTime, Utc};
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources, may_read, may_watch, may_write, named, uncached,
    view::{ExampleView, state_name},
};
use crate::{
    domain::segment::Segment,
    storage::{
        audit, preview,
        segments::{self, SavedSegment, SegmentValues, WriteError},
    },
};

/// Un segmento que se guarda.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSegment {
    /// El de ningún otro segmento.
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    filter: Segment,
}

impl NewSegment {
    fn values(self) -> Result<SegmentValues, Problem> {
        let (name, description) = named(&self.name, &self.description)?;
        Ok(SegmentValues { name, description, filter: checked(self.filter)? })
    }
}

fn checked(segment: Segment) -> Result<Segment, Problem> {
    segment.checked().map_err(|error| Problem::unprocessable("invalid_segment", error.to_string()))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SegmentView {
    id: Uuid,
    name: String,
    description: String,
    filter: Segment,
    created_by: String,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<SavedSegment> for SegmentView {
    fn from(saved: SavedSegment) -> Self {
        let SavedSegment { id, name, description, filter, created_by, version, created_at, updated_at } =
            saved;
        Self { id, name, description, filter, created_by, version, created_at, updated_at }
    }
}

fn shown(status: StatusCode, saved: SavedSegment) -> HttpResponse {
    HttpResponse::build(status).insert_header(etag(saved.version)).json(SegmentView::from(saved))
}

fn refused(error: WriteError) -> Problem {
    match error {
        WriteError::NameTaken => Problem::conflict("duplicate_segment", "Otro segmento tiene ese nombre"),
        WriteError::Database(error) => error.into(),
    }
}

fn no_segment(id: &str) -> Problem {
    Problem::not_found(format!("Segmento {id} no encontrado"))
}

/// The segment, if it is as the caller read it.
async fn locked(
    conn: &mut PgConnection,
    Versioned { id, expected }: &Versioned,
) -> Result<SavedSegment, Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| no_segment(id))?;
    let saved = segments::lock(conn, uuid).await?.ok_or_else(|| no_segment(id))?;
    let changed = || format!("El segmento {id} cambió desde que lo leyó; léalo de nuevo");
    expected.check(saved.version, "segment_changed", changed)?;
    Ok(saved)
}

/// Keeps a segment.
#[utoipa::path(
    operation_id = "segments_create", summary = "Crear un segmento",
    description = "",
    post, path = "/api/v1/segments", tag = "segments", request_body = NewSegment,
    responses(
        (status = 201, body = SegmentView), (status = 409, description = "Otro segmento tiene ese nombre"),
        (status = 422),
    )
)]
pub(super) async fn create(api: Data<Resources>, caller: Caller, body: Json<NewSegment>) -> ApiResult {
    may_write(&caller)?;
    let values = body.into_inner().values()?;
    let mut transaction = api.database.pool.begin().await?;
    let saved = segments::insert(&mut transaction, &values, caller.id()).await.map_err(refused)?;
    let (id, details) = (saved.id.to_string(), json!({ "name": saved.name, "filter": saved.filter }));
    audit::record(&mut transaction, caller.id(), "segment_created", Some(&id), &details).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::CREATED, saved))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// Segmentos por página, de 1 a 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// El `next_cursor` de la página anterior.
    cursor: Option<String>,
}

/// The segments there are, newest first.
#[utoipa::path(
    operation_id = "segments_list", summary = "Listar segmentos",
    description = "Del más reciente al más antiguo.",
    get, path = "/api/v1/segments", tag = "segments", params(ListQuery),
    responses((status = 200, body = Page<SegmentView>))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    may_read(&caller)?;
    let limit = in_range("limit", query.limit.unwrap_or(50), 1, 200)?;
    let before = Cursor::before("cursor", query.cursor.as_deref(), "next_cursor")?;
    let mut page = segments::list(&api.database.pool, before, limit + 1).await?;
    let next_cursor = cut(&mut page, limit, |last| Cursor { at: last.created_at, id: last.id }.to_string());
    let items = page.into_iter().map(SegmentView::from).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor }))
}

/// A segment.
#[utoipa::path(
    operation_id = "segments_get", summary = "Ver un segmento",
    description = "El ETag es su versión.",
    get, path = "/api/v1/segments/{id}", tag = "segments", params(("id" = String, Path)),
    responses((status = 200, body = SegmentView))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let uuid = Uuid::parse_str(&id).map_err(|_| no_segment(&id))?;
    let saved = segments::get(&api.database.pool, uuid).await?.ok_or_else(|| no_segment(&id))?;
    Ok(shown(StatusCode::OK, saved))
}

/// Another name, description or filter for a segment.
#[utoipa::path(
    operation_id = "segments_replace", summary = "Reemplazar un segmento",
    description = "Su nombre, descripción y filtro.",
    put, path = "/api/v1/segments/{id}", tag = "segments",
    params(Versioned),
    request_body = NewSegment,
    responses(
        (status = 200, body = SegmentView), (status = 409, description = "Otro segmento tiene ese nombre"),
        (status = 412, description = "El segmento cambió"), (status = 422),
    )
)]
pub(super) async fn replace(
    api: Data<Resources>,
    caller: Caller,
    target: Versioned,
    body: Json<NewSegment>,
) -> ApiResult {
    may_write(&caller)?;
    let values = body.into_inner().values()?;
    let mut transaction = api.database.pool.begin().await?;
    let old = locked(&mut transaction, &target).await?;
    let saved = segments::update(&mut transaction, old.id, &values).await.map_err(refused)?;
    let details = json!({ "name": saved.name, "before": old.filter, "after": saved.filter });
    audit::record(&mut transaction, caller.id(), "segment_changed", Some(&target.id), &details).await?;
    transaction.commit().await?;
    Ok(shown(StatusCode::OK, saved))
}

/// Forgets a segment.
#[utoipa::path(
    operation_id = "segments_delete", summary = "Eliminar un segmento",
    description = "",
    delete, path = "/api/v1/segments/{id}", tag = "segments",
    params(Versioned),
    responses((status = 204), (status = 412))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, target: Versioned) -> ApiResult {
    may_write(&caller)?;
    let mut transaction = api.database.pool.begin().await?;
    let old = locked(&mut transaction, &target).await?;
    segments::delete(&mut transaction, old.id).await?;
    let details = json!({ "name": old.name, "filter": old.filter });
    audit::record(&mut transaction, caller.id(), "segment_deleted", Some(&target.id), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Cuántos contactos tiene un segmento.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewView {
    /// Cuántos tendría una audiencia suya.
    count: i64,
    /// Cuántos cumplen; más que `count` si solo se quiere una muestra.
    matching: i64,
    /// Contados; si no, estimados de algunas páginas de la tabla.
    exact: bool,
    /// Cuándo se contó; nulo si todavía no se ha contado.
    as_of: Option<DateTime<Utc>>,
    by_state: Vec<StateCount>,
    /// Diez de ellos como máximo, al azar.
    sample: Vec<ExampleView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StateCount {
    state_code: Option<String>,
    state_name: Option<&'static str>,
    contacts: i64,
}

/// How many contacts a filter has, where, and some of them. For who may use them: admins and operators.
#[utoipa::path(
    operation_id = "segments_preview", summary = "Calcular un segmento",
    description = "Cuántos contactos tiene un filtro, dónde, y algunos de ellos.",
    post, path = "/api/v1/segments/preview", tag = "segments", request_body = Segment,
    responses((status = 200, body = PreviewView), (status = 422))
)]
pub(super) async fn preview(api: Data<Resources>, caller: Caller, body: Json<Segment>) -> ApiResult {
    may_watch(&caller)?;
    let segment = checked(body.into_inner())?;
    let mut conn = api.database.pool.acquire().await?;
    let found = preview::preview(&mut conn, &segment, Utc::now()).await?;
    let sample: Vec<_> = found.sample.into_iter().map(ExampleView::from).collect();
    let ids: Vec<_> = sample.iter().map(|example| example.id).collect();
    let details = json!({ "filter": segment, "ids": ids });
    audit::record(&mut conn, caller.id(), "segment_previewed", None, &details).await?;
    let mut by_state: Vec<_> = found
        .by_state
        .into_iter()
        .filter(|(_, contacts)| *contacts > 0)
        .map(|(state_code, contacts)| StateCount {
            state_name: state_name(state_code.as_deref()),
            state_code,
            contacts,
        })
        .collect();
    by_state.sort_by_key(|state| std::cmp::Reverse(state.contacts));
    let matching = by_state.iter().map(|state| state.contacts).sum();
    Ok(uncached().json(PreviewView {
        count: segment.of(matching),
        matching,
        exact: found.exact,
        as_of: found.as_of,
        by_state,
        sample,
    }))
}
