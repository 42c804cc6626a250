//! The rows of an import that gave no contact, to download.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{CsvQuery, Query, csv_pages},
};
use sea_orm::sqlx;
use serde_json::json;
use tabular::{CsvExport, CsvField, CsvStyle};

use super::{Resources, imports::found, may_read, sees_masked};
use crate::{
    domain::Reason,
    import::audience_list::TOO_LONG,
    storage::{
        audit,
        rejects::{self, Reject},
    },
};

/// Rows fetched at once.
pub(super) const PAGE: i64 = 2_000;
/// Digits that a masked value shows, as a masked phone does.
const SHOWN: usize = 4;

/// Every rejected row of an import, with its reason. The value is masked for who sees phones masked.
#[utoipa::path(
    operation_id = "imports_download_rejected", summary = "Descargar las filas rechazadas de una importación",
    description = "Cada fila rechazada con su motivo, en CSV. A un viewer los valores se le muestran sin más que sus cuatro últimas cifras.",
    get, path = "/api/v1/contacts/imports/{id}/rejected.csv", tag = "contacts",
    params(("id" = String, Path), CsvQuery),
    responses(
        (status = 200, description = "CSV: fila, valor, codigo, motivo", content_type = "text/csv"),
        (status = 409, description = "Es una simulación, que no guarda sus filas (dry_run); no ha terminado (not_finished); o fue revertida, y sus filas con ella (rolled_back)"),
    )
)]
pub(super) async fn download(
    api: Data<Resources>,
    caller: Caller,
    id: Path<String>,
    query: Query<CsvQuery>,
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
    let (pool, number) = (api.database.pool.clone(), import.number);
    let page = move |after| {
        let pool = pool.clone();
        async move { rejects::page(&pool, number, after, PAGE).await }
    };
    Ok(csv(&import.source, query.style(), masked, page))
}

/// The rejected rows of a file as CSV, named after it. `page` gives those after a row, [`PAGE`] at most.
pub(super) fn csv<R>(
    filename: &str,
    style: CsvStyle,
    masked: bool,
    page: impl Fn(i64) -> R + 'static,
) -> HttpResponse
where
    R: Future<Output = sqlx::Result<Vec<Reject>>> + 'static,
{
    let mut head = CsvExport::new(style);
    head.record(["fila", "valor", "codigo", "motivo"].map(CsvField::Text));
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem);
    csv_pages(&format!("{stem}_rechazadas.csv"), head, i64::MIN, move |after, mut rows| {
        let page = page(after);
        async move {
            let page = page.await?;
            for reject in &page {
                let value = reject.value.as_deref().map(|value| shown(value, masked));
                rows.record([
                    CsvField::Number(&reject.source_id.to_string()),
                    CsvField::optional(value.as_deref()),
                    CsvField::Text(&reject.reason),
                    CsvField::optional(message(&reject.reason)),
                ]);
            }
            Ok::<_, sqlx::Error>((page.last().map(|last| last.source_id), rows))
        }
    })
}

/// What is wrong with a row, for people.
fn message(code: &str) -> Option<&'static str> {
    let of_phone = Reason::ALL.into_iter().find(|reason| reason.code() == code).map(Reason::message);
    of_phone.or((code == TOO_LONG.0).then_some(TOO_LONG.1))
}

/// A value as the caller may see it. What is no phone may be most of one, or somebody's name.
fn shown(value: &str, masked: bool) -> String {
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
