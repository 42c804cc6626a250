//! What an import came to, as its clients read it and as its row keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Summary;

/// What an import came to. Lists hold the first 1,000 in the order of the sheet; the whole is in the downloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportResult {
    pub mensaje: String,
    pub resumen: Resumen,
    /// Ids; of a dry run: those that would be.
    pub productos_creados: Vec<String>,
    /// Those that changed.
    pub productos_actualizados: Vec<String>,
    /// Of an undo: what the import had created.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub productos_eliminados: Vec<String>,
    /// Of an undo: what the import had updated.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub productos_restaurados: Vec<String>,
    /// The rejected rows; of an undo: those whose product stays as it is.
    pub errores: Vec<RowProblem>,
    /// Rows that were accepted and that a person should look at.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub advertencias: Vec<RowAdvice>,
    /// Columns of the file that mean nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columnas_ignoradas: Vec<String>,
    /// Other sheets of the workbook that have products and were not read: `hoja` chooses one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hojas_omitidas: Vec<String>,
    /// Of a correction: how many of the rows that the other task had rejected the file lacks.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub filas_ausentes: u64,
    /// Of a dry run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub simulacion: Option<Simulacion>,
    /// Whether one of the lists is longer than it is shown.
    pub truncado: bool,
}

/// What a dry run would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Simulacion {
    /// The updates, each with the columns that change.
    pub cambios: Vec<PlannedChange>,
    /// How many products each column would change of.
    pub campos: BTreeMap<String, u64>,
}

/// An update that a dry run would make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedChange {
    pub fila: i32,
    pub producto_id: String,
    pub campos: Vec<String>,
}

/// The sums: total = exitosos + rechazados; exitosos = productos_creados + productos_actualizados, of an undo
/// productos_eliminados + productos_restaurados.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resumen {
    pub total: u64,
    pub exitosos: u64,
    pub rechazados: u64,
    /// Rows that met an existing product or an earlier row of the file, whether rejected or updated.
    pub duplicados: u64,
    pub productos_creados: u64,
    /// Products that were there before, those that a row doesn't change included.
    pub productos_actualizados: u64,
    /// Of those, the ones that were as their row says already: nothing was written, and no list names them. Left out
    /// where there are none.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub sin_cambios: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub productos_eliminados: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub productos_restaurados: Option<u64>,
    #[serde(skip_serializing_if = "is_zero", default)]
    pub advertencias: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl From<&Summary> for Resumen {
    fn from(summary: &Summary) -> Self {
        Self {
            total: summary.total,
            exitosos: summary.accepted,
            rechazados: summary.rejected,
            duplicados: summary.duplicates,
            productos_creados: summary.created,
            productos_actualizados: summary.updated,
            sin_cambios: summary.unchanged,
            productos_eliminados: None,
            productos_restaurados: None,
            advertencias: 0,
        }
    }
}

/// A rejected row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowProblem {
    /// The row of the sheet; the header is 1.
    pub fila: i32,
    /// What is wrong, for a person.
    pub error: String,
    /// The same for a program.
    pub codigo: String,
    pub columna: Option<String>,
    pub valor: Option<String>,
}

/// Something about an accepted row that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowAdvice {
    pub fila: i32,
    pub advertencia: String,
    pub codigo: String,
    pub columna: Option<String>,
    pub valor: Option<String>,
}
