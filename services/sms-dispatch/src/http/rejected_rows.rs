//! The rows of an import that gave no contact, to download.

use actix_web::web::{Data, Path};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Query, csv_pages},
};
use sea_orm::sqlx;
use serde::Deserialize;
use serde_json::json;
use tabular::{CsvExport, CsvField, CsvStyle};
use utoipa::IntoParams;

use super::{Resources, imports::found, may_read, sees_masked};
use crate::{
    domain::Reason,
    storage::{audit, rejects},
};

/// Rows fetched at once.
const PAGE: i64 = 2_000;
/// Digits that a masked value shows, as a masked phone does.
const SHOWN: usize = 4;

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct RejectedQuery {
    /// Para programas: comas, sin marca de orden de bytes y el texto tal cual, también donde una hoja de cálculo lo tomaría por
    /// fórmula.
    #[serde(default)]
    pub(super) crudo: bool,
}

/// Every rejected row of an import, with its reason. The value is masked for who sees phones masked.
#[utoipa::path(
    operation_id = "imports_download_rejected", summary = "Descargar las filas rechazadas de una importación",
    description = "Cada fila rechazada con su motivo, en CSV. A un viewer los valores se le muestran sin más que sus cuatro últimas cifras.",
    get, path = "/api/v1/contacts/imports/{id}/rejected.csv", tag = "contacts",
    params(("id" = String, Path), RejectedQuery),
    responses(
        (status = 200, description = "CSV: fila, valor, codigo, motivo", content_type = "text/csv"),
        (status = 409, description = "Es una simulación, que no guarda sus filas (dry_run); no ha terminado (not_finished); o fue revertida, y sus filas con ella (rolled_back)"),
    )
)]
pub(super) async fn download(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<RejectedQuery>,
) -> ApiResult {
    may_read(&caller)?;
    let import = found(&api, &id).await?;
    if import.options.dry_run {
        return Err(Problem::conflict("dry_run", "Una simulación no guarda sus filas rechazadas"));
    }
    // An empty file would say that every row was good.
    if import.rolled_back_at.is_some() {
        let detail = "La importación fue revertida, y sus filas rechazadas se eliminaron con ella";
        return Err(Problem::conflict("rolled_back", detail));
    }
    let masked = sees_masked(&caller);
    let mut conn = api.database.pool.acquire().await?;
    if jobs::get(&mut conn, import.id).await?.is_some_and(|job| !job.state.is_final()) {
        let detail = "La importación no ha terminado: faltan filas rechazadas";
        return Err(Problem::conflict("not_finished", detail));
    }
    audit::record(&mut conn, caller.id(), "rejects_downloaded", Some(&id), &json!({ "masked": masked }))
        .await?;
    drop(conn);
    let mut head = CsvExport::new(if query.crudo { CsvStyle::Raw } else { CsvStyle::Spreadsheet });
    head.record(["fila", "valor", "codigo", "motivo"].map(CsvField::Text));
    let (pool, number) = (api.database.pool.clone(), import.number);
    let stem = import.source.rsplit_once('.').map_or(import.source.as_str(), |(stem, _)| stem);
    Ok(csv_pages(&format!("{stem}_rechazadas.csv"), head, i64::MIN, move |after, mut rows| {
        let pool = pool.clone();
        async move {
            let page = rejects::page(&pool, number, after, PAGE).await?;
            for reject in &page {
                let value = reject.value.as_deref().map(|value| shown(value, masked));
                let reason = Reason::ALL.into_iter().find(|reason| reason.code() == reject.reason);
                rows.record([
                    CsvField::Number(&reject.source_id.to_string()),
                    CsvField::optional(value.as_deref()),
                    CsvField::Text(&reject.reason),
                    CsvField::optional(reason.map(Reason::message)),
                ]);
            }
            Ok::<_, sqlx::Error>((page.last().map(|last| last.source_id), rows))
        }
    }))
}

/// A value as the caller may see it. What is no phone may be most of one, or somebody's name.
pub(super) fn shown(value: &str, masked: bool) -> String {
    if !masked {
        return value.to_owned();
    }
    let digits = value.chars().filter(char::is_ascii_digit).count();
    let hidden = if digits >= 2 * SHOWN { digits - SHOWN } else { digits };
    let mut seen = 0;
    let mask = |letter: char| {
        if letter.is_ascii_digit() {
            seen += 1;
            if seen > hidden { letter } else { '*' }
        } else if letter.is_alphanumeric() {
            '*'
        } else {
            letter
        }
    };
    value.chars().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_masked_value_shows_no_more_than_a_masked_phone() {
        for (value, masked) in [
            ("612 100 476", "*** **0 476"),
            ("+1 (612) 100-4768", "+* (***) ***-4768"),
            ("4768", "****"),
            ("Ana María", "*** *****"),
            ("", ""),
        ] {
            assert_eq!(shown(value, true), masked);
            assert_eq!(shown(value, false), value);
        }
    }
}
