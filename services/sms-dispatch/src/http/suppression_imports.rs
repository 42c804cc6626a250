//! Lists of phones that must not be written to: REPEP's, other systems' opt-outs.

use actix_multipart::{Field, Multipart};
use actix_web::{
    HttpResponse,
    web::{self, Data, Query, ServiceConfig},
};
use bytes::BytesMut;
use chassis::{Problem, auth::Caller};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{Resources, may_write};
use crate::{
    domain::{
        suppression::{Cause, parse_effect},
        suppression_file::{Listing, Refused},
    },
    storage::{
        audit,
        suppressions::{self, New},
    },
};

/// Suppressions a transaction.
const BATCH: usize = 5_000;
/// A line that is longer is none of phones.
const LONGEST_LINE: usize = 64 << 10;
/// Refused rows that are told one by one.
const TOLD: usize = 1_000;

pub fn configure(config: &mut ServiceConfig) {
    config.route("/imports", web::post().to(import));
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportQuery {
    /// Of rows that name no reason: `opt_out`, `repep` or `manual`.
    reason: Cause,
    /// Of rows that name no date: `2026-01-31`, `31/01/2026` or RFC 3339. Unless told REPEP counts after 30 days, all else at
    /// once.
    effective_at: Option<String>,
    /// Where the list is from. The file's name unless told.
    source: Option<String>,
}

/// The file as a part of a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; the file itself is streamed")]
pub(super) struct ListForm {
    /// CSV: a column of phones in any spelling, perhaps `reason` and `effective_at`.
    #[schema(format = Binary, content_media_type = "text/csv")]
    file: String,
}

/// What became of a list.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Outcome {
    rows: i64,
    added: i64,
    /// Those that were there already, or stand in the list twice.
    known: i64,
    rejected: i64,
    /// Contacts that nobody writes to from now on.
    opted_out: i64,
    /// The first thousand rejected rows.
    errors: Vec<Rejection>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rejection {
    line: u64,
    value: String,
    code: &'static str,
    reason: &'static str,
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        Self { line: refused.line, value: refused.value, code: refused.code, reason: refused.message }
    }
}

/// Takes a list of any length. Rows are kept as they come: a list that broke off is sent again, and what was kept is known.
#[utoipa::path(
    post, path = "/api/v1/suppressions/imports", tag = "contacts", operation_id = "suppressions_import", params(ImportQuery),
    request_body(content = ListForm, content_type = "multipart/form-data"),
    responses((status = 200, body = Outcome), (status = 400), (status = 401), (status = 403)),
    security(("bearer" = []))
)]
pub(super) async fn import(
    api: Data<Resources>,
    caller: Caller,
    query: Query<ImportQuery>,
    mut form: Multipart,
) -> Result<HttpResponse, Problem> {
    may_write(&caller)?;
    let now = suppressions::now(&mut *api.database.pool.acquire().await?).await?;
    let effective_at = query.effective_at.as_deref().map(|text| {
        let detail = format!("effective_at {text:?} inválido; se espera AAAA-MM-DD");
        parse_effect(text).ok_or_else(|| Problem::bad_request("invalid_date", detail))
    });
    let listing = Listing::new(query.reason, effective_at.transpose()?, now);
    while let Some(mut field) = form.try_next().await.map_err(|error| broken(&error))? {
        if field.name() != Some("file") {
            // The parts of a form come one after another: what is not wanted has to be read over.
            while field.next().await.transpose().map_err(|error| broken(&error))?.is_some() {}
            continue;
        }
        let named = field.content_disposition().and_then(|disposition| disposition.get_filename());
        let source = query.source.as_deref().or(named).unwrap_or("api");
        let source: String = source.chars().filter(|letter| !letter.is_control()).take(200).collect();
        let mut intake = Intake {
            api: &api,
            actor: caller.id(),
            source,
            listing,
            batch: Vec::new(),
            outcome: Outcome::default(),
        };
        intake.read(&mut field).await?;
        return Ok(HttpResponse::Ok().json(intake.outcome));
    }
    Err(Problem::bad_request("no_file", "No se envió ningún archivo"))
}

fn broken(error: &impl std::fmt::Display) -> Problem {
    Problem::bad_request("upload_interrupted", format!("La carga se interrumpió: {error}"))
}

/// One list on its way into the table.
struct Intake<'a> {
    api: &'a Resources,
    actor: &'a str,
    source: String,
    listing: Listing,
    batch: Vec<New>,
    outcome: Outcome,
}

impl Intake<'_> {
    async fn read(&mut self, field: &mut Field) -> Result<(), Problem> {
        let mut held = BytesMut::new();
        while let Some(chunk) = field.next().await.transpose().map_err(|error| broken(&error))? {
            held.extend_from_slice(&chunk);
            if let Some(end) = memchr::memrchr(b'\n', &held) {
                let lines = held.split_to(end + 1);
                self.take(&lines).await?;
            }
            if held.len() > LONGEST_LINE {
                let detail = "El archivo no es una lista de teléfonos: tiene una línea de más de 64 KB";
                return Err(Problem::bad_request("invalid_file", detail));
            }
        }
        self.take(&held).await?;
        self.write().await?;
        let mut conn = self.api.database.pool.acquire().await?;
        let Outcome { rows, added, known, rejected, opted_out, .. } = self.outcome;
        let details = json!({
            "source": self.source, "rows": rows, "added": added, "known": known, "rejected": rejected,
            "opted_out": opted_out,
        });
        Ok(audit::record(&mut conn, self.actor, "suppressions_imported", None, &details).await?)
    }

    /// Takes whole lines.
    async fn take(&mut self, lines: &[u8]) -> Result<(), Problem> {
        for row in self.listing.read(lines) {
            self.outcome.rows += 1;
            match row {
                Ok(row) => self.batch.push(New {
                    phone: row.phone.to_string(),
                    cause: row.cause,
                    effective_at: row.effective_at,
                }),
                Err(refused) => {
                    self.outcome.rejected += 1;
                    if self.outcome.errors.len() < TOLD {
                        self.outcome.errors.push(refused.into());
                    }
                }
            }
        }
        if self.batch.len() >= BATCH { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), Problem> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let mut transaction = self.api.database.pool.begin().await?;
        suppressions::turn(&mut transaction).await?;
        let added = suppressions::add(&mut transaction, &self.batch, &self.source, self.actor).await?;
        transaction.commit().await?;
        self.outcome.added += added.added;
        self.outcome.known += self.batch.len() as i64 - added.added;
        self.outcome.opted_out += added.opted_out;
        self.batch.clear();
        Ok(())
    }
}
