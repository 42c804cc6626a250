//! What an import that ended shows in its status.

use sea_orm::sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    domain::{
        Summary,
        import_result::{ImportResult, Resumen, RowAdvice, RowProblem, Simulacion},
    },
    storage::{
        imports::Kind,
        ledger::{self, Action, LISTED, Note},
        plan,
    },
};

/// How an import ended, for its `mensaje`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every row has its outcome.
    Complete,
    /// Not all rows were reached.
    Partial,
}

/// Puts the result together from the ledger: sums, and the beginning of each list.
pub async fn of(
    conn: &mut PgConnection,
    import: Uuid,
    kind: Kind,
    ending: Ending,
    summary: &Summary,
    ignored_columns: Vec<String>,
) -> anyhow::Result<ImportResult> {
    let (warnings, warned) = ledger::first_warnings(conn, import).await?;
    let mut result = ImportResult {
        mensaje: message(kind, ending, summary),
        resumen: Resumen { advertencias: warned, ..Resumen::from(summary) },
        productos_creados: Vec::new(),
        productos_actualizados: Vec::new(),
        productos_eliminados: Vec::new(),
        productos_restaurados: Vec::new(),
        errores: ledger::first_rejections(conn, import).await?.into_iter().map(problem).collect(),
        advertencias: warnings.into_iter().map(advice).collect(),
        columnas_ignoradas: ignored_columns,
        hojas_omitidas: Vec::new(),
        filas_ausentes: 0,
        simulacion: None,
        truncado: [summary.created, summary.updated - summary.unchanged, summary.rejected, warned]
            .iter()
            .any(|&count| count > LISTED as u64),
    };
    match kind {
        Kind::Import => {
            result.productos_creados = ledger::first_changes(conn, import, Action::Created).await?;
            result.productos_actualizados = ledger::first_changes(conn, import, Action::Updated).await?;
        }
        Kind::DryRun => {
            result.productos_creados = plan::first_products(conn, import, Action::Created).await?;
            result.productos_actualizados = plan::first_products(conn, import, Action::Updated).await?;
            result.simulacion = Some(plan::describe(conn, import).await?);
        }
        Kind::Undo => {
            result.productos_eliminados = ledger::first_changes(conn, import, Action::Deleted).await?;
            result.productos_restaurados = ledger::first_changes(conn, import, Action::Restored).await?;
            // An undo counts what it removed and restored where an import counts what it made and changed.
            result.resumen.productos_eliminados = Some(summary.created);
            result.resumen.productos_restaurados = Some(summary.updated);
            let resumen = &mut result.resumen;
            (resumen.productos_creados, resumen.productos_actualizados, resumen.duplicados) = (0, 0, 0);
        }
    }
    Ok(result)
}

/// Says of a dry run that its file would be refused whole: of its products, none would come.
pub fn refuse_whole(result: &mut ImportResult) {
    let Resumen { rechazados, advertencias, .. } = result.resumen;
    result.mensaje = format!(
        "Simulación completada: no se escribió ningún cambio. El archivo se rechazaría completo: {rechazados} filas \
         tienen errores"
    );
    result.productos_creados.clear();
    result.productos_actualizados.clear();
    result.simulacion = Some(Simulacion { se_rechazaria_completo: true, ..Simulacion::default() });
    result.truncado = rechazados.max(advertencias) > LISTED as u64;
}

fn message(kind: Kind, ending: Ending, summary: &Summary) -> String {
    let Summary { total, accepted, .. } = summary;
    match (kind, ending) {
        (Kind::Import, Ending::Complete) => "Carga masiva completada".to_owned(),
        (Kind::Import, Ending::Partial) => {
            format!("Carga interrumpida: se procesaron {total} filas y se aplicaron {accepted}")
        }
        (Kind::DryRun, Ending::Complete) => "Simulación completada: no se escribió ningún cambio".to_owned(),
        (Kind::DryRun, Ending::Partial) => {
            format!("Simulación interrumpida: se revisaron {total} filas; no se escribió ningún cambio")
        }
        (Kind::Undo, Ending::Complete) => "Reversión completada".to_owned(),
        (Kind::Undo, Ending::Partial) => {
            format!("Reversión interrumpida: se revisaron {total} cambios y se revirtieron {accepted}")
        }
    }
}

fn problem(note: Note) -> RowProblem {
    RowProblem {
        fila: note.row_number,
        error: note.message,
        codigo: note.code,
        columna: note.column,
        valor: note.value,
    }
}

fn advice(note: Note) -> RowAdvice {
    RowAdvice {
        fila: note.row_number,
        advertencia: note.message,
        codigo: note.code,
        columna: note.column,
        valor: note.value,
    }
}
