//! What a run has made, file by file.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult,
    auth::Caller,
    http::{Query, page::cut},
};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{Resources, in_range, may_read, reports::named};
use crate::{
    domain::state,
    storage::files::{self, File},
};

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct FilesQuery {
    /// El `siguiente` de la página anterior.
    despues_de: Option<i64>,
    /// Archivos por página, de 1 a 1000.
    #[param(minimum = 1, maximum = 1000)]
    size: Option<i64>,
}

/// Un archivo de un reporte.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FileItem {
    /// 0 en el de un resumen.
    id_campana: i64,
    estado: state::Estado,
    archivo: Option<String>,
    filas: Option<i64>,
    bytes: Option<i64>,
    sha256: Option<String>,
    filas_procesadas: i64,
    /// Si se conocen de antemano.
    filas_totales: Option<i64>,
    error: Option<String>,
    download_url: Option<String>,
}

impl From<File> for FileItem {
    fn from(file: File) -> Self {
        let url = || format!("/api/v1/reports/{}/files/{}/download", file.run_id, file.campaign_id);
        Self {
            id_campana: file.campaign_id,
            estado: state::shown(file.state),
            archivo: file.name().map(str::to_owned),
            filas: file.rows,
            bytes: file.bytes,
            filas_procesadas: file.processed,
            filas_totales: file.total,
            download_url: file.kept().map(|_| url()),
            sha256: file.sha256,
            error: file.error,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FilePage {
    items: Vec<FileItem>,
    /// Se envía como `despues_de` para pedir la página siguiente; nulo en la última.
    siguiente: Option<i64>,
}

/// The files of a run, by campaign.
#[utoipa::path(
    operation_id = "files_list", summary = "Listar los archivos de un reporte",
    description = "Por campaña.",
    get, path = "/api/v1/reports/{id}/files", tag = "report", params(("id" = String, Path), FilesQuery),
    responses((status = 200, body = FilePage))
)]
pub(super) async fn list(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<FilesQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let size = in_range("size", query.size.unwrap_or(100), 1, 1_000)?;
    let run = named(&api, &id).await?;
    let after = query.despues_de.unwrap_or(-1);
    let mut page = files::page(&api.database.orm, run.id, after, size + 1).await?;
    let siguiente = cut(&mut page, size, |last| last.campaign_id);
    let items = page.into_iter().map(FileItem::from).collect();
    Ok(HttpResponse::Ok().json(FilePage { items, siguiente }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ManifestLine {
    id_campana: i64,
    archivo: String,
    filas: i64,
    /// Las que la campaña debía tener entonces; nulo si no se sabe, o si el reporte no las lleva todas.
    filas_esperadas: Option<i64>,
    bytes: i64,
    sha256: String,
    /// La clave en el almacenamiento; nulo cuando el archivo se eliminó por su antigüedad.
    ruta: Option<String>,
}

/// Lo que hizo un reporte.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Manifest {
    id: Uuid,
    fecha: NaiveDate,
    estado: state::Estado,
    bucket: String,
    filas: i64,
    bytes: i64,
    /// Cuándo se eliminaron los archivos por su antigüedad.
    eliminado_en: Option<DateTime<Utc>>,
    archivos: Vec<ManifestLine>,
}

/// Every file that is made: rows, bytes, and SHA-256 of what is in the bucket.
#[utoipa::path(
    operation_id = "files_get_manifest", summary = "Ver el manifiesto de un reporte",
    description = "Cada archivo hecho: filas, bytes y SHA-256 de lo que hay en el almacenamiento.",
    get, path = "/api/v1/reports/{id}/manifest", tag = "report", params(("id" = String, Path)),
    responses((status = 200, body = Manifest))
)]
pub(super) async fn manifest(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let run = named(&api, &id).await?;
    let lines = files::of_run(&api.database.orm, run.id).await?.into_iter().filter_map(|file| {
        Some(ManifestLine {
            id_campana: file.campaign_id,
            archivo: file.name()?.to_owned(),
            filas: file.rows?,
            filas_esperadas: file.expected,
            bytes: file.bytes?,
            ruta: file.kept().map(str::to_owned),
            sha256: file.sha256?,
        })
    });
    let archivos: Vec<_> = lines.collect();
    Ok(HttpResponse::Ok().json(Manifest {
        id: run.id,
        fecha: run.fecha,
        estado: state::shown(run.state),
        bucket: api.bucket.clone(),
        filas: archivos.iter().map(|line| line.filas).sum(),
        bytes: archivos.iter().map(|line| line.bytes).sum(),
        eliminado_en: run.purged_at,
        archivos,
    }))
}
