//! Uploads and their statuses.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{
        Query,
        page::{Cursor, cut},
        upload::{self, Bucket, Upload},
    },
    idempotency::IdempotencyKey,
};
use failpoints::Point;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    Resources,
    accepted::Accepted,
    access::{READ, may_write, of_supplier, owned, supplier},
    filled,
};
use crate::{
    files::FileKind,
    status::{State, Status},
    storage::imports::{self, Kind, Options, Source},
    tasks,
    uploads::{self, Acceptance},
};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct UploadQuery {
    /// De quién son los productos, como `PROV001`. Un proveedor puede omitirlo: es el suyo; nadie más.
    #[param(max_length = 64, example = "PROV001")]
    proveedor_id: Option<String>,
    /// Si una fila puede actualizar un producto que ya existe.
    #[serde(default)]
    reemplazar_duplicados: bool,
    /// Si solo se dice qué cambiaría el archivo.
    #[serde(default)]
    dry_run: bool,
    /// Si una fila mala se deja fuera o hace rechazar el archivo entero.
    #[serde(default)]
    #[param(inline)]
    error_policy: ErrorPolicy,
    /// La tarea cuyas filas rechazadas corrige este archivo, con los mismos números de fila: solo se leen
    /// esas.
    corrige: Option<String>,
    /// La hoja del libro que se lee. Si falta, la primera con encabezado y filas, y el resultado nombra las
    /// demás.
    #[param(max_length = 31)]
    hoja: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ErrorPolicy {
    #[default]
    RejectRows,
    RejectFile,
}

/// El archivo como parte de un formulario.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the file itself is streamed")]
pub(super) struct UploadForm {
    /// .xlsx o .csv
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// Takes a workbook and answers at once; its rows are processed behind a queue.
#[utoipa::path(
    operation_id = "imports_create", summary = "Cargar productos de un archivo",
    description = "Recibe un libro .xlsx o un .csv y responde de inmediato; las filas se procesan después. El avance está en `status_url`.",
    post, path = "/api/v1/catalog/items/bulk-upload", tag = "catalog",
    params(UploadQuery, IdempotencyKey),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 202, body = Accepted),
        (status = 400, description = "Sin archivo, sin proveedor_id, o formato no soportado"),
        (status = 404, description = "La tarea de `corrige` no existe"),
        (status = 409, description = "Idempotency-Key ya usada con otra petición"),
        (status = 413, description = "El archivo supera el máximo"),
    )
)]
pub(super) async fn create(
    api: Data<Resources>,
    caller: Caller,
    query: Query<UploadQuery>,
    key: IdempotencyKey,
    form: Upload,
) -> ApiResult {
    may_write(&caller)?;
    let proveedor_id = supplier(query.proveedor_id.as_deref().or(caller.proveedor_id()))?;
    if !caller.may_act_for(proveedor_id) {
        return Err(Problem::forbidden(format!("No puede cargar productos del proveedor {proveedor_id}")));
    }

    let corrects = match &query.corrige {
        Some(task_id) => Some(corrected(&api, &caller, task_id, proveedor_id).await?),
        None => None,
    };
    let options = Options {
        kind: if query.dry_run { Kind::DryRun } else { Kind::Import },
        replace_duplicates: query.reemplazar_duplicados,
        all_or_nothing: query.error_policy == ErrorPolicy::RejectFile,
        applies: None,
        corrects,
        undoes: None,
        sheet: query.hoja.as_deref().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned),
    };

    let task_id = Uuid::now_v7();
    let object_key = format!("uploads/{task_id}");
    let bucket = bucket(&api);
    let check = |filename: &str| is_a_catalog(filename, options.sheet.is_some());
    let stored = form.store(bucket, &object_key, check).await?;
    failpoints::hit(Point::UploadStored);

    let source = Source {
        proveedor_id: proveedor_id.to_owned(),
        filename: stored.filename,
        object_key: object_key.clone(),
        size_bytes: i64::try_from(stored.bytes).map_err(Problem::internal)?,
        sha256: stored.sha256,
    };
    let accepted = match uploads::accept(&api, task_id, caller.id(), &source, &options, key).await {
        Ok(Acceptance::New(transaction)) => {
            // If this fails the object stays: the commit may have come through, with only its answer lost. An object
            // that no row names is found by the clean-up of old ones.
            transaction.commit().await?;
            Accepted::new(ACCEPTED, task_id, State::Pending, &source)
        }
        // Clients know one answer to an upload, also to one that was sent twice.
        Ok(Acceptance::Known(first)) => {
            upload::discard(bucket, &object_key).await;
            Accepted::new(ACCEPTED, first.id, State::Pending, &first.source)
        }
        Err(problem) => {
            upload::discard(bucket, &object_key).await;
            return Err(problem);
        }
    };
    failpoints::hit(Point::UploadCommitted);
    Ok(accepted.respond())
}

const ACCEPTED: &str = "Archivo recibido y encolado para procesamiento";

fn bucket(api: &Resources) -> Bucket<'_> {
    Bucket {
        client: &api.s3,
        name: &api.bucket,
        limit: api.settings.limits.max_bytes,
        spool: &api.settings.spool,
    }
}

/// Whether a file's name is one of a catalog's, and of one with sheets where one of them is asked for.
fn is_a_catalog(filename: &str, with_sheets: bool) -> Result<(), Problem> {
    if filename.is_empty() {
        return Err(upload::no_file());
    }
    let kind = FileKind::of(filename)
        .map_err(|error| Problem::bad_request("unsupported_format", error.to_string()))?;
    if with_sheets && kind == FileKind::Csv {
        let detail = "hoja solo se usa con libros de Excel (.xlsx); un CSV no tiene hojas";
        return Err(Problem::bad_request("no_sheets", detail));
    }
    Ok(())
}

/// The import whose rejected rows the caller sends again.
async fn corrected(
    api: &Resources,
    caller: &Caller,
    task_id: &str,
    proveedor_id: &str,
) -> Result<Uuid, Problem> {
    let first = owned(api, caller, task_id).await?;
    tasks::unpurged(&first)?;
    let is_import = first.options.kind != Kind::Undo && first.source.proveedor_id == proveedor_id;
    if is_import && first.has_ended() {
        return Ok(first.id);
    }
    let detail = format!("corrige debe ser una carga terminada del proveedor {proveedor_id}");
    Err(Problem::conflict("not_correctable", detail))
}

/// How far an import is.
#[utoipa::path(
    operation_id = "imports_get", summary = "Ver el avance de una carga",
    description = "Cuánto se ha procesado y, al terminar, qué pasó con cada fila.",
    get, path = "/api/v1/catalog/bulk-upload/status/{task_id}", tag = "catalog",
    params(("task_id" = String, Path)),
    responses((status = 200, body = Status), (status = 404, description = "Tarea {id} no encontrada"))
)]
pub(super) async fn status(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    caller.require_scope(READ)?;
    let not_found = || Problem::not_found(format!("Tarea {task_id} no encontrada"));
    let id = Uuid::parse_str(&task_id).map_err(|_| not_found())?;
    // A task that failed may have been retried since, and Redis may not have heard of it.
    let status = match api.statuses.get(id).await.filter(|status| status.status != State::Failed) {
        Some(status) => status,
        None => Status::of(&imports::get(&api.database.orm, id).await?.ok_or_else(not_found)?),
    };
    if !caller.may_see(&status.proveedor_id) {
        return Err(not_found());
    }
    Ok(HttpResponse::Ok().insert_header(("Cache-Control", "no-store")).json(status))
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ListQuery {
    /// Solo las de un proveedor.
    proveedor_id: Option<String>,
    /// El `siguiente` de la página anterior.
    despues_de: Option<String>,
    /// Cargas por página, de 1 a 100.
    #[param(minimum = 1, maximum = 100)]
    size: Option<i64>,
}

/// Una página de cargas, de la más reciente a la más antigua.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportPage {
    items: Vec<Status>,
    /// Se envía como `despues_de` para pedir la página siguiente; nulo en la última.
    siguiente: Option<String>,
}

/// The uploads that the caller may see, newest first, without their results.
#[utoipa::path(
    operation_id = "imports_list", summary = "Listar las cargas",
    description = "Las que quien pregunta puede ver, de la más reciente a la más antigua, sin sus resultados.",
    get, path = "/api/v1/catalog/bulk-upload", tag = "catalog", params(ListQuery),
    responses((status = 200, body = ImportPage))
)]
pub(super) async fn list(api: Data<Resources>, caller: Caller, query: Query<ListQuery>) -> ApiResult {
    caller.require_scope(READ)?;
    let proveedor_id = of_supplier(&caller, filled(query.proveedor_id.as_deref()), "las cargas")?;
    let size = query.size.unwrap_or(20);
    if !(1..=100).contains(&size) {
        return Err(Problem::bad_request("invalid_size", format!("size es {size}; se espera de 1 a 100")));
    }
    let before = Cursor::before("despues_de", query.despues_de.as_deref(), "siguiente")?;
    let mut page = imports::list(&api.database.orm, proveedor_id, before, size + 1).await?;
    let siguiente = cut(&mut page, size, |last| Cursor { at: last.created_at, id: last.id }.to_string());
    let items = page.iter().map(|import| Status { result: None, ..Status::of(import) }).collect();
    Ok(HttpResponse::Ok().json(ImportPage { items, siguiente }))
}
