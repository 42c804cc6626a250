//! Files about an import: its original, and what became of its rows.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{CrossSite, CsvQuery, Query, csv_pages, send_object},
};
use jobs::State;
use sea_orm::DbErr;
use serde::Serialize;
use serde_json::Value;
use tabular::{CsvExport, CsvField};
use utoipa::ToSchema;

use super::{Resources, access::kept};
use crate::{
    annotations,
    files::FileKind,
    storage::{
        imports::{Import, Kind},
        ledger::{self, Action, ChangeLine},
        reports,
    },
};

/// The media type of a workbook.
pub(super) const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Rows fetched at once for a download.
const PAGE: i64 = 2_000;

/// The file's name without its extension.
fn stem(import: &Import) -> &str {
    let name = &import.source.filename;
    name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem)
}

/// The file as it was uploaded.
#[utoipa::path(
    operation_id = "imports_download_original", summary = "Descargar el archivo de una carga",
    description = "El archivo como se recibió.",
    get, path = "/api/v1/catalog/bulk-upload/{task_id}/original", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 200, description = "El archivo", content_type = "application/octet-stream"),
        (status = 409, description = "Se eliminó por su antigüedad"),
    )
)]
pub(super) async fn original(api: Data<Resources>, caller: Caller, task_id: Path<String>) -> ApiResult {
    let import = kept(&api, &caller, &task_id).await?;
    let kind = match FileKind::of(&import.source.filename) {
        Ok(FileKind::Xlsx) => XLSX,
        _ => "text/csv",
    };
    send_object(&api.s3, &api.bucket, &import.source.object_key, kind, &import.source.filename).await
}

/// Every rejected row and every warning.
#[utoipa::path(
    operation_id = "imports_download_errors", summary = "Descargar los errores de una carga",
    description = "Cada fila rechazada y cada advertencia, en CSV.",
    get, path = "/api/v1/catalog/bulk-upload/{task_id}/errors.csv", tag = "catalog",
    params(("task_id" = String, Path), CsvQuery),
    responses(
        (status = 200, description = "CSV: fila, tipo, codigo, columna, valor, mensaje", content_type = "text/csv"),
        (status = 409, description = "Se eliminó por su antigüedad"),
    )
)]
pub(super) async fn errors(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
    query: Query<CsvQuery>,
) -> ApiResult {
    let import = kept(&api, &caller, &task_id).await?;
    let mut head = CsvExport::new(query.style());
    head.record(["fila", "tipo", "codigo", "columna", "valor", "mensaje"].map(CsvField::Text));
    let (orm, id) = (api.database.orm.clone(), import.id);
    Ok(csv_pages(&format!("{}_errores.csv", stem(&import)), head, 0, move |after, mut rows| {
        let orm = orm.clone();
        async move {
            let notes = ledger::notes(&orm, id, after, PAGE).await?;
            for note in &notes {
                rows.record([
                    CsvField::Number(&note.row_number.to_string()),
                    CsvField::Text(if note.is_error { "error" } else { "advertencia" }),
                    CsvField::Text(&note.code),
                    CsvField::optional(note.column.as_deref()),
                    CsvField::optional(note.value.as_deref()),
                    CsvField::Text(&note.message),
                ]);
            }
            Ok::<_, DbErr>((notes.last().map(|note| note.row_number), rows))
        }
    }))
}

/// The columns of a product in a list of changes.
const VALUES: [&str; 12] = [
    "codigo",
    "nombre",
    "categoria",
    "presentacion",
    "precio_unitario",
    "certificado_sanitario",
    "condiciones_almacenamiento",
    "tiempo_entrega_dias",
    "stock_minimo",
    "stock_critico",
    "requiere_lote",
    "requiere_vencimiento",
];

/// Every product that the task changed, with what it was before; of a dry run, what it would change.
#[utoipa::path(
    operation_id = "imports_download_changes", summary = "Descargar los cambios de una carga",
    description = "Cada producto que la tarea cambió, con lo que era antes; de una simulación, lo que cambiaría. En CSV.",
    get, path = "/api/v1/catalog/bulk-upload/{task_id}/changes.csv", tag = "catalog",
    params(("task_id" = String, Path), CsvQuery),
    responses(
        (status = 200, description = "CSV: fila, producto_id, accion, campos, y los valores anteriores", content_type = "text/csv"),
        (status = 409, description = "Se eliminó por su antigüedad"),
    )
)]
pub(super) async fn changes(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
    query: Query<CsvQuery>,
) -> ApiResult {
    let import = kept(&api, &caller, &task_id).await?;
    let before = VALUES.map(|name| format!("antes_{name}"));
    let mut head = CsvExport::new(query.style());
    let names = ["fila", "producto_id", "accion", "campos"];
    head.record(names.into_iter().chain(before.iter().map(String::as_str)).map(CsvField::Text));
    let (orm, id) = (api.database.orm.clone(), import.id);
    Ok(csv_pages(&format!("{}_cambios.csv", stem(&import)), head, 0, move |after, mut rows| {
        let orm = orm.clone();
        async move {
            let lines = ledger::changes(&orm, id, after, PAGE).await?;
            lines.iter().for_each(|line| change(&mut rows, line));
            Ok::<_, DbErr>((lines.last().map(|line| line.row_number), rows))
        }
    }))
}

fn change(rows: &mut CsvExport, line: &ChangeLine) {
    let action = match line.action {
        Action::Created => "creado",
        Action::Updated => "actualizado",
        Action::Deleted => "eliminado",
        Action::Restored => "restaurado",
    };
    let fields = line.fields.as_deref().unwrap_or_default().join(" ");
    let before = VALUES.map(|name| line.before.as_ref().map_or(Value::Null, |before| before[name].clone()));
    let numbers: Vec<String> = before.iter().map(Value::to_string).collect();
    let values = before.iter().zip(&numbers).map(|(value, number)| match value {
        Value::Null => CsvField::Empty,
        Value::String(text) => CsvField::Text(text),
        _ => CsvField::Number(number),
    });
    let row = line.row_number.to_string();
    let head = [
        CsvField::Number(&row),
        CsvField::Text(&line.product_id),
        CsvField::Text(action),
        CsvField::Text(&fields),
    ];
    rows.record(head.into_iter().chain(values));
}

/// El archivo se está preparando.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preparing {
    message: &'static str,
    status: &'static str,
}

/// The uploaded file as a workbook with its bad rows marked and explained. The first who asks starts its making:
/// until it is there the answer is 202 with `Retry-After`.
#[utoipa::path(
    operation_id = "imports_download_annotated", summary = "Descargar el archivo con sus errores marcados",
    description = "Un libro con las filas malas marcadas y explicadas. Se prepara la primera vez que se pide: hasta entonces la respuesta es 202 con Retry-After. Con una sesión de cookie, quien lo pide por primera vez envía también X-CSRF-Token.",
    get, path = "/api/v1/catalog/bulk-upload/{task_id}/annotated.xlsx", tag = "catalog",
    params(("task_id" = String, Path)),
    responses(
        (status = 200, description = "Un libro de Excel", content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (status = 202, body = Preparing, description = "Se está preparando; vuelva a pedirlo"),
        (status = 409, description = "La tarea no ha terminado, el libro no se pudo preparar (pedirlo de nuevo lo vuelve a intentar), o el archivo se eliminó por su antigüedad"),
    ),
    extensions(("x-csrf" = json!(true)))
)]
pub(super) async fn annotated(
    api: Data<Resources>,
    caller: Caller,
    task_id: Path<String>,
    site: CrossSite,
) -> ApiResult {
    let import = kept(&api, &caller, &task_id).await?;
    if import.options.kind == Kind::Undo || !import.has_ended() {
        let detail = "El libro anotado existe para cargas y simulaciones que terminaron";
        return Err(Problem::conflict("not_finished", detail));
    }
    if let Some(report) = reports::of_import(&api.database.orm, import.id).await? {
        if let Some(object_key) = &report.object_key {
            let name = format!("{}_anotado.xlsx", stem(&import));
            return send_object(&api.s3, &api.bucket, object_key, XLSX, &name).await;
        }
        if report.state == State::Failed {
            site.refuse()?;
            // Told once: whoever asks again starts it again, for what was wrong may not be any more.
            reports::forget(&api.database.orm, report.job_id).await?;
            let detail = report.error.unwrap_or_else(|| "El libro anotado no se pudo preparar".to_owned());
            let detail = format!("{detail}. Pídalo de nuevo para volver a intentarlo");
            return Err(Problem::conflict("report_failed", detail));
        }
        return Ok(preparing());
    }
    site.refuse()?;
    annotations::begin(&api, import.id, caller.id()).await?;
    Ok(preparing())
}

fn preparing() -> HttpResponse {
    HttpResponse::Accepted().insert_header(("Retry-After", "1")).json(Preparing {
        message: "Se está preparando el archivo; vuelva a pedirlo en unos segundos",
        status: "pending",
    })
}
