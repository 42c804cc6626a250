//! Lists of phones that must not be written to: REPEP's, REUS', other systems' opt-outs.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use actix_web::{HttpResponse, web::Data};
use anyhow::Context as _;
use chassis::{
    ApiResult, Problem,
    auth::Caller,
    http::{Query, upload::Upload},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempPath;
use utoipa::{IntoParams, ToSchema};

use super::{Resources, imports::mapping, may_write};
use crate::{
    domain::suppression::{Cause, parse_effect},
    import::suppression_list::Refused,
    suppression_lists::{self, ListError, ListRequest},
};

/// A list that is larger is none of phones: some thirty million lines.
const LARGEST_LIST: u64 = 1 << 30;
/// Copies of lists in the spool directory begin so.
const COPY: &str = "suppressions-";
/// A copy that is older was left by a process that was killed.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// De las filas que no dicen motivo: `opt_out`, `repep`, `reus` o `manual`.
    reason: Cause,
    /// De las filas que no dicen fecha: `2026-01-31`, `31/01/2026` o RFC 3339. Si falta, REPEP vale a los 30
    /// días y lo demás de inmediato.
    effective_at: Option<String>,
    /// De dónde es la lista. El nombre del archivo si falta.
    source: Option<String>,
    /// Qué columna es qué, como objeto JSON: `{"phone": "Celular"}`; los campos son `phone`, `reason` y
    /// `effective_at`.
    mapping: Option<String>,
}

/// El archivo como parte de un formulario.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the file itself is streamed")]
pub(super) struct ListForm {
    /// Un CSV con los nombres de sus columnas: una de teléfonos, escritos de cualquier manera, y quizá
    /// `reason` y `effective_at`. Una lista sin nombres tiene una sola columna, de teléfonos.
    #[schema(format = Binary, content_media_type = "text/csv")]
    file: String,
}

/// Qué fue de una lista.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SuppressionOutcome)]
pub(super) struct Outcome {
    rows: i64,
    added: i64,
    /// Los que ya estaban, o están dos veces en la lista.
    known: i64,
    rejected: i64,
    /// Contactos a los que ya nadie escribe.
    opted_out: i64,
    /// Las primeras mil filas rechazadas.
    errors: Vec<Rejection>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rejection {
    line: u64,
    value: String,
    code: &'static str,
    reason: &'static str,
}

impl From<suppression_lists::Outcome> for Outcome {
    fn from(outcome: suppression_lists::Outcome) -> Self {
        let suppression_lists::Outcome { rows, added, known, rejected, opted_out, refused } = outcome;
        let errors = refused.into_iter().map(Rejection::from).collect();
        Self { rows, added, known, rejected, opted_out, errors }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Self { line: refused.line, value: refused.value, code: refused.code, reason: refused.message }
    }
}

/// Takes a list, read as the imports of contacts read theirs. A list in which no row is good is refused as a whole, and so is one
/// whose columns are not known.
#[utoipa::path(
    operation_id = "suppressions_import", summary = "Importar una lista de supresiones",
    description = "Se lee como las importaciones de contactos. Una lista en la que ninguna fila es válida, o cuyas columnas no se conocen, se rechaza entera.",
    post, path = "/api/v1/suppressions/imports", tag = "contacts", params(ImportQuery),
    request_body(content = ListForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Outcome),
        (status = 400, description = "Sin archivo, o no es una lista de teléfonos"),
        (status = 413, description = "El archivo supera el máximo"),
        (status = 422, description = "Ninguna fila es válida"),
    )
)]
pub(super) async fn import(
    api: Data<Resources>,
    caller: Caller,
    query: Query<ImportQuery>,
    form: Upload,
) -> ApiResult {
    may_write(&caller)?;
    let ImportQuery { reason, effective_at, source, mapping: columns } = query.into_inner();
    let effective_at = effective_at.map(|text| {
        let detail = format!("effective_at {text:?} inválido; se espera AAAA-MM-DD");
        parse_effect(&text).ok_or_else(|| Problem::bad_request("invalid_date", detail))
    });
    let (effective_at, mapping) = (effective_at.transpose()?, mapping(columns.as_deref())?);
    let copy = copy_in(&api.settings.spool).map_err(Problem::internal)?;
    let filename = form.copy_to(&copy, LARGEST_LIST).await?;
    let named = Some(filename).filter(|name| !name.is_empty());
    let source = source.or(named).unwrap_or_else(|| "api".to_owned());
    let source: String = source.chars().filter(|letter| !letter.is_control()).take(200).collect();
    let request = ListRequest { cause: reason, effective_at, source, mapping };
    let done = suppression_lists::import(&api.database.pool, &copy, &request, caller.id()).await;
    Ok(HttpResponse::Ok().json(Outcome::from(done.map_err(refused)?)))
}

fn refused(error: ListError) -> Problem {
    let detail = error.to_string();
    match error {
        ListError::Unreadable(_) => Problem::bad_request("invalid_file", detail),
        ListError::NoGoodRow(outcome) => {
            let Outcome { rows, rejected, errors, .. } = Outcome::from(outcome);
            Problem::unprocessable("no_good_row", detail)
                .with_details(json!({ "rows": rows, "rejected": rejected, "errors": errors }))
        }
        ListError::Database(error) => error.into(),
        ListError::Entity(error) => error.into(),
        ListError::Internal(error) => Problem::internal(error),
    }
}

/// An empty file in the spool directory, from which stale copies go. It goes with what is returned.
fn copy_in(dir: &Path) -> anyhow::Result<TempPath> {
    let said = || format!("the spool directory {}", dir.display());
    std::fs::create_dir_all(dir).with_context(said)?;
    for entry in std::fs::read_dir(dir).with_context(said)? {
        let entry = entry.with_context(said)?;
        let modified =
            entry.metadata().and_then(|about| about.modified()).unwrap_or_else(|_| SystemTime::now());
        let is_stale = modified.elapsed().is_ok_and(|age| age > STALE);
        if is_stale && entry.file_name().to_string_lossy().starts_with(COPY) {
            // Another process may be tidying too.
            let _: std::io::Result<()> = std::fs::remove_file(entry.path());
        }
    }
    Ok(tempfile::Builder::new().prefix(COPY).tempfile_in(dir).with_context(said)?.into_temp_path())
}
