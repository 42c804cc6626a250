//! Workbooks to begin with.

use actix_web::{
    HttpResponse,
    web::{self, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Query, attachment},
};
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::{
    access::{READ, supplier},
    downloads::XLSX,
};
use crate::files::template::Template;

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct TemplateQuery {
    /// De quién es el ejemplo, como `PROV001`: sus ids y códigos llevan su nombre, para que la carga no choque con la de otro. El propio de un proveedor si falta.
    #[param(max_length = 64, example = "PROV001")]
    proveedor_id: Option<String>,
}

/// The template: `vacia` to fill in, `ejemplo` with rows that are right.
#[utoipa::path(
    operation_id = "templates_download", summary = "Descargar una plantilla",
    description = "`vacia` para llenar, `ejemplo` con filas correctas.",
    get, path = "/api/v1/catalog/templates/{name}.xlsx", tag = "catalog",
    params(("name" = String, Path, description = "vacia o ejemplo"), TemplateQuery),
    responses(
        (status = 200, description = "Un libro de Excel", content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    )
)]
pub(super) async fn template(caller: Caller, name: Path<String>, query: Query<TemplateQuery>) -> ApiResult {
    caller.require_scope(READ)?;
    let owner = match query.proveedor_id.as_deref() {
        Some(named) => Some(supplier(Some(named))?),
        None => caller.proveedor_id(),
    };
    // Nobody's in particular: of no two downloads the same.
    let owner = owner.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
    let Some(kind) = Template::named(&name, &owner) else {
        let detail = format!("No hay plantilla {name}; se espera vacia o ejemplo");
        return Err(Problem::not_found(detail));
    };
    let bytes = web::block(move || kind.xlsx()).await.map_err(Problem::internal)?;
    Ok(HttpResponse::Ok()
        .content_type(XLSX)
        .insert_header(attachment(&format!("plantilla_{name}.xlsx")))
        .body(bytes.map_err(Problem::internal)?))
}
