//! The files themselves.

use std::io::{self, Write};

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use anyhow::Context as _;
use aws_sdk_s3::{error::DisplayErrorContext, presigning::PresigningConfig};
use bytes::Bytes;
use chassis::{
    ApiResult, Problem,
    auth::{Caller, Role},
    http::{Query, download, send_object},
    s3,
};
use futures::stream;
use jobs::State;
use serde::Deserialize;
use tokio::{runtime::Handle, sync::mpsc};
use utoipa::IntoParams;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{Resources, may_read, reports::named};
use crate::{
    domain::params::{Compression, Kind},
    storage::{
        files::{self, File},
        runs::Run,
    },
};

/// What is gathered of an archive before it is sent, and pieces that wait for the client.
const PIECE: usize = 64 << 10;
const WAITING: usize = 4;

/// A line a message has the phone and the text: what is masked everywhere else is not to be had in a file. Summaries count.
fn may_download(caller: &Caller, run: &Run) -> Result<(), Problem> {
    if caller.role() == Role::Viewer && run.params.kind == Kind::Detalle {
        let detail = "Los archivos de detalle llevan teléfonos y textos completos, que su rol no ve; pida un reporte de tipo resumen";
        return Err(Problem::forbidden(detail));
    }
    Ok(())
}

/// Files are kept for a time.
fn kept(run: &Run) -> Result<(), Problem> {
    match run.purged_at {
        None => Ok(()),
        Some(at) => {
            let day = at.format("%Y-%m-%d");
            let detail = format!("Los archivos de este reporte se eliminaron el {day} por su antigüedad");
            Err(Problem::conflict("purged", detail))
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct OneQuery {
    /// Por esta API, en lugar de por un enlace al almacenamiento.
    #[serde(default)]
    directo: bool,
}

/// A file: by a link that works for some minutes and is signed again for each request, or streamed.
#[utoipa::path(
    operation_id = "files_download", summary = "Descargar un archivo de un reporte",
    description = "Por un enlace que vale unos minutos y se firma en cada petición, o por esta API. Un viewer solo descarga resúmenes.",
    get, path = "/api/v1/reports/{id}/files/{id_campana}/download", tag = "report",
    params(("id" = String, Path), ("id_campana" = i64, Path), OneQuery),
    responses(
        (status = 200, description = "El archivo", content_type = "application/octet-stream"),
        (status = 307, description = "Dónde está"),
        (status = 409, description = "No está listo, o se eliminó por su antigüedad"),
    )
)]
pub(super) async fn one(
    api: Data<Resources>,
    caller: Caller,
    path: Path<(String, String)>,
    query: Query<OneQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let (id, campaign) = path.into_inner();
    let run = named(&api, &id).await?;
    may_download(&caller, &run)?;
    let none = || Problem::not_found(format!("El reporte {id} no tiene la campaña {campaign}"));
    let number: i64 = campaign.parse().map_err(|_| none())?;
    let file = files::get(&api.database.orm, run.id, number).await?.ok_or_else(none)?;
    kept(&run)?;
    let (Some(key), Some(name)) = (&file.object_key, file.name()) else {
        return Err(Problem::conflict("not_ready", "El archivo todavía no está listo"));
    };
    if query.directo {
        return send_object(&api.s3, &api.bucket, key, "application/octet-stream", name).await;
    }
    let expires = PresigningConfig::expires_in(api.settings.link).map_err(Problem::internal)?;
    let disposition = format!("attachment; filename=\"{name}\"");
    let signed = api
        .signer
        .get_object()
        .bucket(&api.bucket)
        .key(key)
        .response_content_disposition(disposition)
        .presigned(expires)
        .await
        .map_err(|error| Problem::internal(anyhow::anyhow!("{}", DisplayErrorContext(error))))?;
    Ok(HttpResponse::TemporaryRedirect()
        .insert_header(("Location", signed.uri()))
        .insert_header(("Cache-Control", "no-store"))
        .finish())
}

/// All files of a completed run as one ZIP archive, made while it is sent.
#[utoipa::path(
    operation_id = "reports_download", summary = "Descargar todos los archivos de un reporte",
    description = "En un ZIP que se arma mientras se descarga. Un viewer solo descarga resúmenes.",
    get, path = "/api/v1/reports/{id}/download", tag = "report", params(("id" = String, Path)),
    responses(
        (status = 200, description = "Un archivo ZIP", content_type = "application/zip"),
        (status = 409, description = "No está completo, o se eliminó por su antigüedad"),
    )
)]
pub(super) async fn all(api: Data<Resources>, caller: Caller, id: Path<String>) -> ApiResult {
    may_read(&caller)?;
    let run = named(&api, &id).await?;
    may_download(&caller, &run)?;
    kept(&run)?;
    if run.state != State::Completed {
        return Err(Problem::conflict("not_ready", "El reporte todavía no está completo"));
    }
    let files = files::of_run(&api.database.orm, run.id).await?;
    // What is compressed already does not get smaller.
    let method = match run.params.compression {
        Compression::None => CompressionMethod::Deflated,
        Compression::Gzip => CompressionMethod::Stored,
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let (resources, handle) = (Resources::clone(&api), Handle::current());
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { sender, piece: Vec::with_capacity(PIECE) };
        if let Err(error) = archive(&resources, &handle, &files, method, &mut pipe) {
            tracing::warn!(error = format!("{error:#}"), "an archive broke off");
            // The client sees a broken transfer, and not an archive that ends early.
            pipe.sender.blocking_send(Err(io::Error::other("the archive broke off"))).ok();
        }
    });
    let chunks = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    let name = format!("reporte_{}_{}.zip", run.params.kind.name(), run.fecha.format("%Y%m%d"));
    Ok(download("application/zip", &name).streaming(chunks))
}

/// Writes the archive, on a thread that may wait.
fn archive(
    api: &Resources,
    handle: &Handle,
    files: &[File],
    method: CompressionMethod,
    pipe: &mut Pipe,
) -> anyhow::Result<()> {
    let mut archive = ZipWriter::new_stream(&mut *pipe);
    // Fast: who wants it small asks for gzip.
    let level = (method == CompressionMethod::Deflated).then_some(1);
    for file in files {
        let (key, name) = file.object_key.as_deref().zip(file.name()).context("a file without its name")?;
        let options = SimpleFileOptions::default()
            .compression_method(method)
            .compression_level(level)
            .large_file(file.bytes.is_none_or(|bytes| bytes > i64::from(i32::MAX)));
        archive.start_file(name, options)?;
        let mut body = handle.block_on(s3::open(&api.s3, &api.bucket, key))?;
        while let Some(chunk) = handle.block_on(body.next()) {
            archive.write_all(&chunk?)?;
        }
    }
    archive.finish()?;
    pipe.flush()?;
    Ok(())
}

/// Gives what is written to whoever sends it.
struct Pipe {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Pipe {
    fn pass(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone");
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.pass()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()
    }
}
