//! What an import came to, as its clients read it and as its row keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Summary;

/// El resultado de una carga. Las listas tienen las primeras 1.000 en el orden de la hoja; todo está en las
/// descargas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportResult {
    pub mensaje: String,
    pub resumen: Resumen,
    /// Ids; en una simulación, los que se crearían.
    pub productos_creados: Vec<String>,
    /// Los que cambiaron.
    pub productos_actualizados: Vec<String>,
    /// Al revertir: lo que la carga había creado.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub productos_eliminados: Vec<String>,
    /// Al revertir: lo que la carga había actualizado.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub productos_restaurados: Vec<String>,
    /// Las filas rechazadas; al revertir, aquellas cuyo producto queda como está.
    pub errores: Vec<RowProblem>,
    /// Filas aceptadas que alguien debería revisar.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub advertencias: Vec<RowAdvice>,
    /// Columnas del archivo que aquí no significan nada.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columnas_ignoradas: Vec<String>,
    /// Otras hojas del libro con productos, que no se leyeron: `hoja` elige una.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hojas_omitidas: Vec<String>,
    /// De una corrección: cuántas de las filas rechazadas por la otra tarea le faltan al archivo.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub filas_ausentes: u64,
    /// De una simulación.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub simulacion: Option<Simulacion>,
    /// Si alguna de las listas es más larga de lo que se muestra.
    pub truncado: bool,
}

/// Lo que cambiaría una simulación.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Simulacion {
    /// Las actualizaciones, cada una con las columnas que cambian.
    pub cambios: Vec<PlannedChange>,
    /// En cuántos productos cambiaría cada columna.
    pub campos: BTreeMap<String, u64>,
    /// Con `error_policy=reject_file`: si alguna fila tiene errores, de modo que no se aplicaría ninguna. `resumen` dice
    /// qué pasaría con cada fila si se aplicaran las demás; las listas de productos quedan vacías.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub se_rechazaria_completo: bool,
}

/// Una actualización que haría una simulación.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlannedChange {
    pub fila: i32,
    pub producto_id: String,
    pub campos: Vec<String>,
}

/// Las sumas: total = exitosos + rechazados; exitosos = productos_creados + productos_actualizados o, al
/// revertir, productos_eliminados + productos_restaurados.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Resumen {
    pub total: u64,
    pub exitosos: u64,
    pub rechazados: u64,
    /// Filas con un producto que ya existía o con una fila anterior del archivo, rechazadas o actualizadas.
    pub duplicados: u64,
    pub productos_creados: u64,
    /// Productos que ya existían, incluidos los que la fila no cambia.
    pub productos_actualizados: u64,
    /// De esos, los que ya eran como dice su fila: no se escribió nada y ninguna lista los nombra. Falta si
    /// no hay.
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

/// Una fila rechazada.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowProblem {
    /// La fila de la hoja; el encabezado es la 1.
    pub fila: i32,
    /// Qué tiene de malo, para una persona.
    pub error: String,
    /// Lo mismo, para un programa.
    pub codigo: String,
    pub columna: Option<String>,
    pub valor: Option<String>,
}

/// Algo de una fila aceptada que alguien debería revisar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RowAdvice {
    pub fila: i32,
    pub advertencia: String,
    pub codigo: String,
    pub columna: Option<String>,
    pub valor: Option<String>,
}
