//! Imports of contacts: asked for, watched, reported, rolled back.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        Json, Query,
        job::Accepted,
        json_parameter, request_id,
        upload::{Bucket, Upload},
    },
    idempotency::{IdempotencyKey, request_hash},
    lock,
};
use jobs::{Creation, NewJob};
use sea_orm::sqlx::PgTransaction;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    import_view::{ImportPage, ImportView},
    job_requests::{self, PageQuery, settle},
    may_administer, may_watch,
};
use crate::{
    Resources,
    contact_files::{self, CONTACT_FILES},
    domain::source::{Kind, Mapping},
    import::quality::Report,
    jobs::{import_contacts, roll_back_import},
    storage::{
        audit,
        imports::{self, Import, NewImport, Options},
    },
};

/// How a file is imported.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub(super) struct Choices {
    /// Con qué fundamento se puede escribir a estas personas; sin él, la publicidad las deja fuera.
    consent_basis: Option<String>,
    /// Solo contar qué sería de las filas.
    #[serde(default)]
    dry_run: bool,
    /// Solo las primeras filas.
    limit: Option<u64>,
    /// De un CSV: qué columna es qué, como objeto JSON: `{"phone": "Celular"}`.
    mapping: Option<String>,
}

/// Un archivo que ya está en el almacenamiento.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(super) struct Stored {
    /// Su clave, que empieza con `contacts/`.
    object_key: String,
    consent_basis: Option<String>,
    #[serde(default)]
    dry_run: bool,
    limit: Option<u64>,
    mapping: Option<String>,
}

/// El archivo como parte de un formulario.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the file itself is streamed")]
pub(super) struct ImportForm {
    /// numeros.db o .csv
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// Below which each import is.
const LIST: &str = "/api/v1/contacts/imports";
const ACCEPTED: &str = "Importación recibida y encolada para procesamiento";

/// Takes a file, and answers once it is stored.
pub(super) async fn upload(
    api: Data<Resources>,
    caller: Caller,
    choices: Query<Choices>,
    key: IdempotencyKey,
    form: Upload,
) -> ApiResult {
    may_administer(&caller)?;
    let choices = choices.into_inner();
    let options = options(&choices)?;
    let id = Uuid::now_v7();
    let object_key = format!("{CONTACT_FILES}{id}");
    let file = store(&api, form, &object_key).await?;
    let hash = request_hash(&[file.sha256.as_bytes(), choices_bytes(&choices)?.as_slice()]);
    let accepted = match api.database.pool.begin().await {
        Ok(transaction) => {
            accept(transaction, &api, &caller, id, &file, (&options, &choices), (key, hash)).await
        }
        Err(error) => Err(error.into()),
    };
    let accepted = settle(bucket(&api), &object_key, id, accepted).await?;
    Ok(Accepted::respond(ACCEPTED, LIST, accepted))
}

/// Imports a file that is in the bucket already; with the annotation of both.
#[utoipa::path(
    operation_id = "imports_create", summary = "Importar contactos",
    description = "De un archivo que se envía o, en JSON, de uno que ya está en el almacenamiento. Responde cuando está guardado; las filas se procesan después.",
    post, path = "/api/v1/contacts/imports", tag = "contacts",
    params(Choices, IdempotencyKey),
    request_body(content((ImportForm = "multipart/form-data"), (Stored = "application/json")), description = "numeros.db o CSV como campo file; o, en JSON, un archivo que ya está en el bucket: sus opciones van entonces en el cuerpo"),
    responses(
        (status = 202, body = Accepted), (status = 400, description = "Sin archivo, o una opción inválida"),
        (status = 409, description = "Idempotency-Key ya usada con otra petición"),
        (status = 413, description = "El archivo supera el máximo"),
    )
)]
pub(super) async fn start(
    api: Data<Resources>,
    caller: Caller,
    key: IdempotencyKey,
    request: Json<Stored>,
) -> ApiResult {
    may_administer(&caller)?;
    let Stored { object_key, consent_basis, dry_run, limit, mapping } = request.into_inner();
    let choices = Choices { consent_basis, dry_run, limit, mapping };
    let options = options(&choices)?;
    let object_key = object_key.as_str();
    if !object_key.starts_with(CONTACT_FILES) || object_key.len() > 512 {
        let detail = format!("object_key debe empezar con {CONTACT_FILES} y tener hasta 512 caracteres");
        return Err(Problem::bad_request("invalid_object_key", detail));
    }
    let hash = request_hash(&[object_key.as_bytes(), choices_bytes(&choices)?.as_slice()]);
    let mut transaction = api.database.pool.begin().await?;
    // A key answers what it first answered, also when its file is gone.
    if let Some(key) = &key.0
        && let Some(first) = jobs::keyed(&mut transaction, caller.id(), key, Some(&hash)).await?
    {
        return Ok(Accepted::respond(ACCEPTED, LIST, first.id));
    }
    // From here to the commit no sweep takes the file away.
    lock::hold_shared(&mut transaction, contact_files::USES).await?;
    let beginning = api.s3.get_object().bucket(&api.bucket).key(object_key).range("bytes=0-15").send().await;
    let beginning = beginning.map_err(|error| {
        use aws_sdk_s3::error::ProvideErrorMetadata as _;
        match error.code() {
            Some("NoSuchKey") => Problem::not_found(format!("No existe el objeto {object_key}")),
            Some("InvalidRange") => {
                Problem::bad_request("empty_file", format!("El objeto {object_key} está vacío"))
            }
            _ => Problem::unavailable("storage_unavailable", error),
        }
    })?;
    let bytes =
        beginning.body.collect().await.map_err(|error| Problem::unavailable("storage_unavailable", error))?;
    let file = StoredUpload {
        name: object_key.rsplit('/').next().unwrap_or(object_key).to_owned(),
        object_key: object_key.to_owned(),
        kind: Kind::detect(&bytes.into_bytes()),
        sha256: object_key.to_owned(),
    };
    let (id, asked) = (Uuid::now_v7(), (&options, &choices));
    let (id, transaction) = accept(transaction, &api, &caller, id, &file, asked, (key, hash)).await?;
    transaction.commit().await?;
    Ok(Accepted::respond(ACCEPTED, LIST, id))
}

/// A stored file.
struct StoredUpload {
    name: String,
    object_key: String,
    kind: Kind,
    sha256: String,
}

fn options(choices: &Choices) -> Result<Options, Problem> {
    if let Some(basis) = &choices.consent_basis
        && (basis.trim().is_empty() || basis.chars().count() > 64)
    {
        let detail = "consent_basis debe tener entre 1 y 64 caracteres";
        return Err(Problem::bad_request("invalid_consent_basis", detail));
    }
    let mapping = mapping(choices.mapping.as_deref())?;
    Ok(Options { dry_run: choices.dry_run, limit: choices.limit, batch_size: None, mapping })
}

/// Which column is what, as a parameter tells it.
pub(super) fn mapping(text: Option<&str>) -> Result<Mapping, Problem> {
    let Some(text) = text else { return Ok(Mapping::default()) };
    let expected = "un objeto JSON de campo a columna, como {\"phone\": \"Celular\"}";
    json_parameter("mapping", text, "invalid_mapping", expected)
}

fn choices_bytes(choices: &Choices) -> Result<Vec<u8>, Problem> {
    let parts = (&choices.consent_basis, choices.dry_run, choices.limit, &choices.mapping);
    serde_json::to_vec(&parts).map_err(Problem::internal)
}

/// Streams the form's file into the bucket.
async fn store(api: &Resources, form: Upload, object_key: &str) -> Result<StoredUpload, Problem> {
    let stored = form.store(bucket(api), object_key, |_| Ok(())).await?;
    let name = if stored.filename.is_empty() { "contactos".to_owned() } else { stored.filename };
    let kind = Kind::detect(&stored.beginning);
    Ok(StoredUpload { name, object_key: object_key.to_owned(), kind, sha256: stored.sha256 })
}

/// Where files go.
pub(super) fn bucket(api: &Resources) -> Bucket<'_> {
    Bucket { client: &api.s3, name: &api.bucket, limit: api.settings.max_bytes, spool: &api.settings.spool }
}

/// Job, import, audit and nudge, in a transaction that the caller commits. Gives the first import's id where the key was
/// used before.
async fn accept(
    mut transaction: PgTransaction<'static>,
    api: &Resources,
    caller: &Caller,
    id: Uuid,
    file: &StoredUpload,
    (options, choices): (&Options, &Choices),
    (key, hash): (IdempotencyKey, String),
) -> Result<(Uuid, PgTransaction<'static>), Problem> {
    let job_kind = import_contacts::kind(&api.settings);
    let job = NewJob { id, idempotency_key: key.0, request_hash: Some(hash), ..job_kind.job(caller.id()) };
    let import = NewImport {
        id,
        source: &file.name,
        kind: file.kind,
        object_key: Some(&file.object_key),
        path: None,
        fingerprint: None,
        consent: choices.consent_basis.as_deref().map_or("unknown", str::trim),
        options,
        imported_by: caller.id(),
    };
    match job_kind.create(&mut transaction, job, request_id()).await? {
        Creation::Existing(first) => Ok((first.id, transaction)),
        Creation::Created(_) => {
            imports::insert(&mut transaction, &import).await?;
            let details = json!({"source": import.source, "consent": import.consent, "options": options});
            audit::record(&mut transaction, caller.id(), "import_started", Some(&id.to_string()), &details)
                .await?;
            Ok((id, transaction))
        }
    }
}

/// Imports, the latest first.
#[utoipa::path(
    operation_id = "imports_list", summary = "Listar importaciones",
    description = "De la más reciente a la más antigua.",
    get, path = "/api/v1/contacts/imports", tag = "contacts", params(PageQuery),
    responses((status = 200, body = ImportPage))
)]
pub(super) async fn list(
    api: Data<Resources>,
    caller: Caller,
    query: Query<PageQuery>,
) -> ApiResult<Json<ImportPage>> {
    may_watch(&caller)?;
    let limit = query.limit()?;
    let found = imports::list(&api.database.pool, query.cursor, limit + 1).await?;
    let (found, next_cursor) = job_requests::with_jobs(&api, found, limit, |import| import.id).await?;
    let imports = found.iter().map(|(import, job)| ImportView::of(import, job.as_ref())).collect();
    Ok(Json(ImportPage { imports, next_cursor }))
}

pub(super) async fn found(api: &Resources, id: &str) -> Result<Import, Problem> {
    let not_found = || Problem::not_found(format!("Importación {id} no encontrada"));
    let id = Uuid::parse_str(id).map_err(|_| not_found())?;
    imports::get(&api.database.pool, id).await?.ok_or_else(not_found)
}

/// How far an import is, and what it came to.
#[utoipa::path(
    operation_id = "imports_get", summary = "Ver el avance de una importación",
    description = "Y, al terminar, lo que resultó.",
    get, path = "/api/v1/contacts/imports/{id}", tag = "contacts", params(("id" = String, Path)),
    responses(
        (status = 200, body = ImportView), (status = 404, description = "Importación {id} no encontrada"),
    )
)]
pub(super) async fn get(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
) -> ApiResult<Json<ImportView>> {
    may_watch(&caller)?;
    let job = job_requests::job(&api, &id).await?;
    let import = found(&api, &id).await?;
    Ok(Json(ImportView::of(&import, job.as_ref())))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportQuery {
    /// `json`, o `md` para una página de Markdown.
    formato: Option<String>,
}

/// The quality report of an import that is complete.
#[utoipa::path(
    operation_id = "imports_get_report", summary = "Ver el reporte de calidad de una importación",
    description = "De una importación completada, en JSON o en Markdown.",
    get, path = "/api/v1/contacts/imports/{id}/report", tag = "contacts", params(("id" = String, Path), ReportQuery),
    responses(
        (status = 200, description = "El informe, en JSON o Markdown", content((Object = "application/json"), (String = "text/markdown"))),
        (status = 409, description = "La importación no ha terminado"),
    )
)]
pub(super) async fn report(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<ReportQuery>,
) -> ApiResult {
    may_watch(&caller)?;
    let import = found(&api, &id).await?;
    let report = import.report.ok_or_else(|| {
        Problem::conflict("not_finished", "La importación no ha terminado: no hay informe todavía")
    })?;
    match query.formato.as_deref() {
        None | Some("json") => Ok(HttpResponse::Ok().json(report)),
        Some("md") if report.get("dry_run").is_some() => {
            Err(Problem::bad_request("no_page", "Una simulación solo tiene informe en JSON"))
        }
        Some("md") => {
            let report: Report = serde_json::from_value(report).map_err(Problem::internal)?;
            Ok(HttpResponse::Ok().content_type("text/markdown; charset=utf-8").body(report.to_markdown()))
        }
        Some(other) => {
            Err(Problem::bad_request("invalid_format", format!("formato es {other:?}; se espera json o md")))
        }
    }
}

/// Stops an import at its next batch; what it brought in stays until it is rolled back.
#[utoipa::path(
    operation_id = "imports_cancel", summary = "Cancelar una importación",
    description = "Se detiene en su siguiente bloque; lo que trajo queda hasta que se revierta.",
    post, path = "/api/v1/contacts/imports/{id}/cancel", tag = "contacts", params(("id" = String, Path)),
    responses((status = 202, body = ImportView), (status = 409, description = "La importación ya terminó"))
)]
pub(super) async fn cancel(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_administer(&caller)?;
    let import = found(&api, &id).await?;
    let ended = "La importación ya terminó";
    let job = job_requests::cancel(&api, &caller, import.id, "import_cancelled", ended).await?;
    Ok(HttpResponse::Accepted().json(ImportView::of(&import, Some(&job))))
}

/// Takes out what an import brought in, as a job. Who opted out stays out.
#[utoipa::path(
    operation_id = "imports_roll_back", summary = "Revertir una importación",
    description = "Una tarea saca lo que la importación trajo. Quien se dio de baja sigue de baja.",
    post, path = "/api/v1/contacts/imports/{id}/rollback", tag = "contacts", params(("id" = String, Path)),
    responses(
        (status = 202, body = Accepted),
        (status = 409, description = "La importación no ha terminado, ya fue revertida, o hay una posterior"),
    )
)]
pub(super) async fn roll_back(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_administer(&caller)?;
    let import = found(&api, &id).await?;
    let mut transaction = api.database.pool.begin().await?;
    if import.rolled_back_at.is_some() {
        return Err(Problem::conflict("already_rolled_back", "La importación ya fue revertida"));
    }
    if jobs::get(&mut transaction, import.id).await?.is_some_and(|job| !job.state.is_final()) {
        return Err(Problem::conflict("not_finished", "La importación no ha terminado; cancélela primero"));
    }
    let later = crate::storage::rollback::later(&api.database.pool, import.number).await?;
    if let Some(later) = later {
        return Err(Problem::conflict("later_import", later.to_string()));
    }
    let job = roll_back_import::create(&mut transaction, &api.settings, import.id, caller.id(), request_id());
    if job.await?.is_some() {
        let subject = import.id.to_string();
        audit::record(&mut transaction, caller.id(), "import_rollback_asked", Some(&subject), &Value::Null)
            .await?;
    }
    transaction.commit().await?;
    Ok(Accepted::respond("Reversión recibida y encolada para procesamiento", LIST, import.id))
}
