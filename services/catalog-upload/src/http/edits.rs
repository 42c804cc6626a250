//! What a person sends to change one product.

use actix_web::http::StatusCode;
use chassis::Problem;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    domain::{Column, ProductRow, RawCell, RawRow, validate},
    files::Limits,
    storage::products::EditError,
};

/// A product to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewProduct {
    pub id: String,
    /// A supplier's own where it is left out.
    pub proveedor_id: Option<String>,
    #[serde(flatten)]
    pub values: Values,
}

/// Its values. What is left out is empty, or has the template's default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Values {
    nombre: Option<String>,
    codigo: Option<String>,
    categoria: Option<String>,
    presentacion: Option<String>,
    precio_unitario: Option<f64>,
    requisitos_almacenamiento: Option<String>,
    certificado_sanitario: Option<String>,
    tiempo_entrega_dias: Option<f64>,
    stock_minimo: Option<f64>,
    stock_critico: Option<f64>,
    requiere_lote: Option<bool>,
    requiere_vencimiento: Option<bool>,
}

impl Values {
    /// The product that they make, under the rules of a workbook's row.
    ///
    /// # Errors
    /// 422 with the first field that breaks them, and all of them in the sentence.
    pub fn check(self, id: &str) -> Result<ProductRow, Problem> {
        let max_chars = Limits::default().max_cell_chars;
        let text =
            |value: Option<String>| value.map_or(RawCell::Empty, |value| RawCell::text(&value, max_chars));
        let number = |value: Option<f64>| value.map_or(RawCell::Empty, RawCell::Number);
        let truth = |value: Option<bool>| value.map_or(RawCell::Empty, RawCell::Bool);
        let mut row = RawRow::new(0);
        for (column, cell) in [
            (Column::Id, text(Some(id.to_owned()))),
            (Column::Nombre, text(self.nombre)),
            (Column::Codigo, text(self.codigo)),
            (Column::Categoria, text(self.categoria)),
            (Column::Presentacion, text(self.presentacion)),
            (Column::PrecioUnitario, number(self.precio_unitario)),
            (Column::CertificadoSanitario, text(self.certificado_sanitario)),
            (Column::CondicionesAlmacenamiento, text(self.requisitos_almacenamiento)),
            (Column::TiempoEntregaDias, number(self.tiempo_entrega_dias)),
            (Column::StockMinimo, number(self.stock_minimo)),
            (Column::StockCritico, number(self.stock_critico)),
            (Column::RequiereLote, truth(self.requiere_lote)),
            (Column::RequiereVencimiento, truth(self.requiere_vencimiento)),
        ] {
            row.set(column, cell);
        }
        let checked = validate(row).map_err(|error| {
            let details = json!({ "campo": error.column.map(field), "valor": error.value });
            Problem::unprocessable(error.code, error.message).with_details(details)
        })?;
        // A file's row may have spaces around its id; an address may not mean two products.
        if checked.row.id == id {
            Ok(checked.row)
        } else {
            let detail = format!("id {id:?} inválido: no se esperan espacios alrededor");
            Err(Problem::unprocessable("invalid_id", detail))
        }
    }
}

/// The name of a column in this API.
const fn field(column: Column) -> &'static str {
    match column {
        Column::PrecioUnitario => "precioUnitario",
        Column::CertificadoSanitario => "certificadoSanitario",
        Column::CondicionesAlmacenamiento => "requisitosAlmacenamiento",
        Column::TiempoEntregaDias => "tiempoEntregaDias",
        Column::StockMinimo => "stockMinimo",
        Column::StockCritico => "stockCritico",
        Column::RequiereLote => "requiereLote",
        Column::RequiereVencimiento => "requiereVencimiento",
        other => other.name(),
    }
}

/// The answer to a change that was not made.
pub(super) fn edit_problem(error: EditError, id: &str, codigo: &str) -> Problem {
    match error {
        EditError::NotFound => super::products::no_product(id),
        EditError::Taken(what) => {
            let value = if what == "ID" { id } else { codigo };
            Problem::conflict(
                "duplicate_product",
                format!("El {what} {value} ya es de otro producto; use otro"),
            )
        }
        EditError::Changed(version) => {
            let detail = format!("El producto {id} cambió desde que lo leyó; léalo de nuevo");
            Problem::new(StatusCode::PRECONDITION_FAILED, "product_changed", detail)
                .with_details(json!({ "etag": format!("\"{version}\"") }))
        }
        EditError::Database(error) => error.into(),
    }
}
