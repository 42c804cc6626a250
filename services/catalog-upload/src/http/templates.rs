//! Workbooks to begin with.

use std::sync::OnceLock;

use actix_web::{
    HttpResponse,
    web::{self, Path},
};
use chassis::{Problem, auth::Caller};

use super::{
    access::READ,
    attachment::{XLSX, attachment},
};
use crate::files::template::Template;

/// The template: `vacia` to fill in, `ejemplo` with rows that are right.
#[utoipa::path(
    operation_id = "templates_download", summary = "Descargar una plantilla",
    description = "`vacia` para llenar, `ejemplo` con filas correctas.",
    get, path = "/api/v1/catalog/templates/{name}.xlsx", tag = "catalog",
    params(("name" = String, Path, description = "vacia o ejemplo")),
    responses(
        (status = 200, description = "Un libro de Excel", content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            )
)]
pub(super) async fn template(caller: Caller, name: Path<String>) -> Result<HttpResponse, Problem> {
    static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
    static EXAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    caller.require_scope(READ)?;
    let Some(kind) = Template::named(&name) else {
        let detail = format!("No hay plantilla {name}; se espera vacia o ejemplo");
        return Err(Problem::not_found(detail));
    };
    let made = if kind == Template::Vacia { &EMPTY } else { &EXAMPLE };
    let bytes = match made.get() {
        Some(bytes) => bytes,
        None => {
            let bytes = web::block(move || kind.xlsx()).await.map_err(Problem::internal)?;
            let bytes = bytes.map_err(Problem::internal)?;
            made.get_or_init(|| bytes)
        }
    };
    Ok(HttpResponse::Ok()
        .content_type(XLSX)
        .insert_header(attachment(&format!("plantilla_{name}.xlsx")))
        .body(bytes.as_slice()))
}
