//! Files whose people are a campaign's audience: uploaded, watched, deleted. A campaign names one in its plan.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        CsvQuery, Query,
        job::{Accepted, Pace},
        page::Page,
        request_id,
        upload::{Bucket, Stored, Upload},
    },
    idempotency::{IdempotencyKey, request_hash},
};
use chrono::{DateTime, NaiveDate, Utc};
use jobs::{Creation, Job, NewJob, State as JobState};
use sea_orm::sqlx::PgTransaction;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources,
    campaigns::{may_read, may_write},
    imports::{bucket, mapping},
    job_requests::{self, PageQuery, settle},
    rejected_rows::{PAGE, csv},
    sees_masked,
};
use crate::{
    contact_files::AUDIENCE_FILES,
    domain::{
        audience_file::Consent,
        campaign::State,
        source::{Kind, Mapping},
    },
    jobs::load_audience,
    storage::{
        audience_files::{self, AudienceFile, NewFile},
        audit,
    },
};

/// Below which each file is.
const LIST: &str = "/api/v1/audiences";
const ACCEPTED: &str = "Lista recibida y encolada para procesamiento";
/// States of campaigns that are still to read the file they name.
const UNREAD: [State; 3] = [State::Draft, State::Scheduled, State::Preparing];

/// Con qué consentimiento se escribe a las personas del archivo, y cuáles son sus columnas.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Choices {
    /// De quién es el consentimiento y con qué fundamento, de 1 a 200 caracteres; con `consent_at` y `consent_source`, o ninguno
    /// de los tres. Sin ellos, ninguna campaña de publicidad puede usar la lista.
    consent_basis: Option<String>,
    /// Desde cuándo: `2026-01-31`.
    consent_at: Option<String>,
    /// Dónde consta, de 1 a 200 caracteres.
    consent_source: Option<String>,
    /// Qué columna es qué, como objeto JSON: `{"phone": "Celular"}`.
    mapping: Option<String>,
}

/// El archivo como parte de un formulario.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the file itself is streamed")]
pub(super) struct AudienceForm {
    /// Un CSV con los nombres de sus columnas: una de teléfonos, escritos de cualquier manera. Todas son campos de los textos.
    #[schema(format = Binary, content_media_type = "text/csv")]
    file: String,
}

/// Una lista, y cuánto lleva.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AudienceView {
    id: Uuid,
    filename: String,
    /// pending, running, completed, failed o cancelled; deleted cuando sus personas ya se eliminaron.
    status: &'static str,
    consent: Option<Consent>,
    /// Los campos que los textos de una campaña a esta lista pueden usar, además de `baja`; desde que está completa.
    fields: Vec<String>,
    /// Filas leídas: `rows = accepted + rejected`.
    rows: i64,
    accepted: i64,
    rejected: i64,
    rows_per_second: Option<f64>,
    /// De una que falló, o que espera para intentarlo de nuevo.
    error: Option<String>,
    created_by: String,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    /// Desde cuándo ninguna campaña puede usarla.
    deleted_at: Option<DateTime<Utc>>,
}

impl AudienceView {
    /// A file whose job is past its time is what its row says.
    fn of(file: AudienceFile, job: Option<&Job>) -> Self {
        let progress = job.map(|job| job.progress).unwrap_or_default();
        let state = match job {
            Some(job) => job.state,
            None if file.loaded_at.is_some() => JobState::Completed,
            None => JobState::Failed,
        };
        let deleted = state == JobState::Completed && file.purged_at.is_some();
        let fields = file.shape.as_ref().map(|shape| shape.names()).unwrap_or_default();
        let pace = job.map(|job| Pace::of(job, Utc::now())).unwrap_or_default();
        Self {
            id: file.id,
            status: if deleted { "deleted" } else { state.name() },
            fields: fields.into_iter().map(str::to_owned).collect(),
            rows: file.rows.unwrap_or(progress.processed),
            accepted: file.accepted.unwrap_or(progress.successful),
            rejected: file.rejected.unwrap_or(progress.failed),
            rows_per_second: pace.per_second.map(f64::round),
            error: job.and_then(|job| job.error.clone()),
            finished_at: job.and_then(|job| job.finished_at).or(file.loaded_at),
            deleted_at: file.purged_at,
            filename: file.filename,
            consent: file.consent,
            created_by: file.created_by,
            created_at: file.created_at,
        }
    }
}

fn no_file(id: &str) -> Problem {
    Problem::not_found(format!("Lista {id} no encontrada"))
}

async fn found(api: &Resources, id: &str) -> Result<AudienceFile, Problem> {
    let uuid = Uuid::parse_str(id).map_err(|_| no_file(id))?;
    audience_files::get(&api.database.pool, uuid).await?.ok_or_else(|| no_file(id))
}

fn not_finished() -> Problem {
    Problem::conflict("not_finished", "La lista no ha terminado de cargarse; cancélela primero")
}

impl Choices {
    /// The consent that is named for the whole file.
    fn consent(&self, today: NaiveDate) -> Result<Option<Consent>, Problem> {
        let Self { consent_basis, consent_at, consent_source, .. } = self;
        let refused = |detail: &str| Problem::bad_request("invalid_consent", detail);
        let (basis, at, source) = match (consent_basis, consent_at, consent_source) {
            (None, None, None) => return Ok(None),
            (Some(basis), Some(at), Some(source)) => (basis, at, source),
            _ => {
                return Err(refused(
                    "El consentimiento lleva consent_basis, consent_at y consent_source: de quién, desde cuándo y dónde consta",
                ));
            }
        };
        let text = |text: &str| {
            let text = text.trim();
            let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
            let detail = "consent_basis y consent_source llevan de 1 a 200 caracteres";
            if fits { Ok(text.to_owned()) } else { Err(refused(detail)) }
        };
        let day = NaiveDate::parse_from_str(at, "%Y-%m-%d").ok().filter(|day| *day <= today);
        let day = day.ok_or_else(|| refused("consent_at es un día que ya llegó, como 2026-01-31"))?;
        Ok(Some(Consent { basis: text(basis)?, at: day, source: text(source)? }))
    }
}

/// Takes a file, and answers once it is stored.
#[utoipa::path(
    operation_id = "audiences_create", summary = "Subir una lista como audiencia de campañas",
    description = "Un CSV con teléfonos, cuyas columnas son campos de los textos. Responde cuando está guardado; las filas se procesan después.",
    post, path = "/api/v1/audiences", tag = "campaigns",
    params(Choices, IdempotencyKey),
    request_body(content = AudienceForm, content_type = "multipart/form-data"),
    responses(
        (status = 202, body = Accepted), (status = 400, description = "Sin archivo, no es un CSV, o una opción inválida"),
        (status = 409, description = "Idempotency-Key ya usada con otra petición"),
        (status = 413, description = "El archivo supera el máximo"),
    )
)]
pub(super) async fn upload(
    api: Data<Resources>,
    caller: Caller,
    choices: Query<Choices>,
    key: IdempotencyKey,
    form: Upload,
) -> ApiResult {
    may_write(&caller)?;
    let choices = choices.into_inner();
    // Mexico is behind UTC: nobody's today is refused.
    let consent = choices.consent(Utc::now().date_naive())?;
    let mapping = mapping(choices.mapping.as_deref())?;
    let id = Uuid::now_v7();
    let object_key = format!("{AUDIENCE_FILES}{id}");
    let bucket = Bucket { limit: api.sms.audience_most_bytes, ..bucket(&api) };
    let stored = form.store(bucket, &object_key, |_| Ok(())).await?;
    let accepted = match is_csv(&stored) {
        Err(problem) => Err(problem),
        Ok(()) => {
            let asked = serde_json::to_vec(&(&consent, &mapping)).map_err(Problem::internal)?;
            let hash = request_hash(&[stored.sha256.as_bytes(), asked.as_slice()]);
            let filename = if stored.filename.is_empty() { "lista.csv" } else { stored.filename.as_str() };
            let file =
                New { id, filename, object_key: &object_key, mapping: &mapping, consent: consent.as_ref() };
            accept(&api, &caller, &file, (key, hash)).await
        }
    };
    let accepted = settle(bucket, &object_key, id, accepted).await?;
    Ok(Accepted::respond(ACCEPTED, LIST, accepted))
}

fn is_csv(stored: &Stored) -> Result<(), Problem> {
    match Kind::detect(&stored.beginning) {
        Kind::Csv => Ok(()),
        Kind::Sqlite => {
            Err(Problem::bad_request("invalid_file", "Se espera un archivo CSV, no una base de datos"))
        }
    }
}

/// A file that is stored.
struct New<'a> {
    id: Uuid,
    filename: &'a str,
    object_key: &'a str,
    mapping: &'a Mapping,
    consent: Option<&'a Consent>,
}

/// Job, file, audit and nudge, in a transaction that the caller commits. Gives the first file's id where the key was used
/// before.
async fn accept(
    api: &Resources,
    caller: &Caller,
    new: &New<'_>,
    (key, hash): (IdempotencyKey, String),
) -> Result<(Uuid, PgTransaction<'static>), Problem> {
    let mut transaction = api.database.pool.begin().await?;
    let kind = load_audience::kind(&api.settings);
    let job =
        NewJob { id: new.id, idempotency_key: key.0, request_hash: Some(hash), ..kind.job(caller.id()) };
    if let Creation::Existing(first) = kind.create(&mut transaction, job, request_id()).await? {
        return Ok((first.id, transaction));
    }
    let New { id, filename, object_key, mapping, consent } = *new;
    let file = NewFile { id, filename, object_key, mapping, consent, created_by: caller.id() };
    audience_files::insert(&mut transaction, &file).await?;
    let details = json!({ "filename": filename, "consent": consent });
    audit::record(&mut transaction, caller.id(), "audience_file_uploaded", Some(&id.to_string()), &details)
        .await?;
    Ok((id, transaction))
}

/// Files, the latest first.
#[utoipa::path(
    operation_id = "audiences_list", summary = "Listar las listas subidas",
    description = "De la más reciente a la más antigua.",
    get, path = "/api/v1/audiences", tag = "campaigns", params(PageQuery),
    responses((status = 200, body = Page<AudienceView>))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<PageQuery>) -> ApiResult {
    may_read(&caller)?;
    let limit = query.limit()?;
    let page = audience_files::list(&api.database.pool, query.cursor, limit + 1).await?;
    let (page, next_cursor) = job_requests::with_jobs(&api, page, limit, |file| file.id).await?;
    let items = page.into_iter().map(|(file, job)| AudienceView::of(file, job.as_ref())).collect();
    Ok(HttpResponse::Ok().json(Page { items, next_cursor: next_cursor.map(|id| id.to_string()) }))
}

/// How far a file is, and what its columns are called in texts.
#[utoipa::path(
    operation_id = "audiences_get", summary = "Ver una lista",
    description = "Cuánto lleva, y qué campos pueden usar los textos.",
    get, path = "/api/v1/audiences/{id}", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 200, body = AudienceView), (status = 404, description = "Lista {id} no encontrada"))
)]
pub(super) async fn get(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let job = job_requests::job(&api, &id).await?;
    let file = found(&api, &id).await?;
    Ok(HttpResponse::Ok().json(AudienceView::of(file, job.as_ref())))
}

/// Every rejected row of a file, with its reason. The value is masked for who sees phones masked.
#[utoipa::path(
    operation_id = "audiences_download_rejected", summary = "Descargar las filas rechazadas de una lista",
    description = "Cada fila rechazada con su motivo, en CSV. A un viewer los valores se le muestran sin más que sus cuatro últimas cifras.",
    get, path = "/api/v1/audiences/{id}/rejected.csv", tag = "campaigns", params(("id" = String, Path), CsvQuery),
    responses(
        (status = 200, description = "CSV: fila, valor, codigo, motivo", content_type = "text/csv"),
        (status = 409, description = "No ha terminado (not_finished), o sus filas ya se eliminaron (deleted)"),
    )
)]
pub(super) async fn rejected(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<CsvQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let file = found(&api, &id).await?;
    // An empty file would say that every row was good.
    if file.purged_at.is_some() {
        return Err(Problem::conflict("deleted", "Las filas de la lista ya se eliminaron"));
    }
    if file.loaded_at.is_none() {
        return Err(not_finished());
    }
    let masked = sees_masked(&caller);
    let mut conn = api.database.pool.acquire().await?;
    let details = json!({ "masked": masked });
    audit::record(&mut conn, caller.id(), "audience_rejects_downloaded", Some(&id), &details).await?;
    drop(conn);
    let (pool, number) = (api.database.pool.clone(), file.number);
    let page = move |after| {
        let pool = pool.clone();
        async move { audience_files::rejects(&pool, number, after, PAGE).await }
    };
    Ok(csv(&file.filename, query.style(), masked, page))
}

/// Stops the loading of a file; nothing of it stays.
#[utoipa::path(
    operation_id = "audiences_cancel", summary = "Cancelar la carga de una lista",
    description = "Se detiene en su siguiente bloque; nada de ella queda.",
    post, path = "/api/v1/audiences/{id}/cancel", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 202, body = AudienceView), (status = 409, description = "La carga ya terminó"))
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_write(&caller)?;
    let file = found(&api, &id).await?;
    let ended = "La carga ya terminó";
    let job = job_requests::cancel(&api, &caller, file.id, "audience_file_cancelled", ended).await?;
    Ok(HttpResponse::Accepted().json(AudienceView::of(file, Some(&job))))
}

/// Forgets the people of a file. Who was written to stays in the ledgers of the campaigns that used it.
#[utoipa::path(
    operation_id = "audiences_delete", summary = "Eliminar las personas de una lista",
    description = "Ninguna campaña puede usarla más; sus filas se eliminan en un momento. Los mensajes de campañas que ya la usaron quedan.",
    delete, path = "/api/v1/audiences/{id}", tag = "campaigns", params(("id" = String, Path)),
    responses((status = 204), (status = 409, description = "No ha terminado de cargarse (not_finished), o una campaña que no ha iniciado la usa (in_use)"))
)]
pub(super) async fn delete(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_write(&caller)?;
    let uuid = Uuid::parse_str(&id).map_err(|_| no_file(&id))?;
    let mut transaction = api.database.pool.begin().await?;
    let file = audience_files::lock(&mut transaction, uuid).await?.ok_or_else(|| no_file(&id))?;
    if jobs::get(&mut transaction, uuid).await?.is_some_and(|job| !job.state.is_final()) {
        return Err(not_finished());
    }
    let campaigns = audience_files::campaigns_of(&mut transaction, uuid, &UNREAD).await?;
    if let Some(campaign) = campaigns.first() {
        let detail = format!("La campaña {campaign:?} usa la lista: cámbiela o elimínela primero");
        return Err(Problem::conflict("in_use", detail));
    }
    audience_files::let_go(&mut transaction, uuid).await?;
    let details = json!({ "filename": file.filename });
    audit::record(&mut transaction, caller.id(), "audience_file_deleted", Some(&id), &details).await?;
    transaction.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consent_is_named_whole_and_lies_behind_us() {
        let today = NaiveDate::from_ymd_opt(2026, 11, 27).expect("a day");
        let consent = |basis: Option<&str>, at: Option<&str>, source: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let choices = Choices {
                consent_basis: own(basis),
                consent_at: own(at),
                consent_source: own(source),
                mapping: None,
            };
            choices.consent(today)
        };
        assert_eq!(consent(None, None, None).expect("none"), None);
        let named = consent(Some(" contrato "), Some("2026-11-27"), Some("CRM")).expect("a consent");
        assert_eq!(named.map(|consent| (consent.basis, consent.at)), Some(("contrato".to_owned(), today)));
        assert!(consent(Some("contrato"), None, None).is_err(), "nobody says since when");
        assert!(consent(Some("contrato"), Some("2026-11-28"), Some("CRM")).is_err(), "not given yet");
        assert!(consent(Some("contrato"), Some("ayer"), Some("CRM")).is_err());
        assert!(consent(Some(" "), Some("2026-11-27"), Some("CRM")).is_err());
    }
}
