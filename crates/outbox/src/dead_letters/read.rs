use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool, Row as _, postgres::PgRow};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AuditEntry;
use crate::{Error, storable};

/// What became of an archived letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LetterState {
    /// Nobody has decided yet.
    Open,
    /// It went back to its queue.
    Replayed,
    /// Somebody decided against it.
    Discarded,
}

impl LetterState {
    /// The name in the table and in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Which letters. All that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The logical name of the queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue: Option<String>,
    /// The message's type.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Stands in the reason or in the error, whatever the case of its letters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What became of it. Replay and discard look at open letters only.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub state: Option<LetterState>,
    /// Failed at this time or later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<DateTime<Utc>>,
    /// Failed before this time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<DateTime<Utc>>,
}

impl Filter {
    /// The same as the table can be asked for it: with what stands there for NUL, and no times that it can't hold.
    pub(super) fn storable(&self) -> Self {
        let text = |text: &Option<String>| text.as_deref().map(|text| storable::text(text).into_owned());
        Self {
            queue: text(&self.queue),
            kind: text(&self.kind),
            reason: text(&self.reason),
            state: self.state,
            from: self.from.map(storable::limit),
            to: self.to.map(storable::limit),
        }
    }
}

/// An archived letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The archive's own id.
    pub id: Uuid,
    /// The logical name of the queue whose handler could not process it.
    pub queue: String,
    /// The envelope's id, if it can be read.
    pub message_id: Option<Uuid>,
    /// The envelope's type, if it can be read.
    pub kind: Option<String>,
    /// The message as it was; bytes that are no text as lossy UTF-8. None in a list: some are megabytes.
    pub body: Option<String>,
    /// Its size.
    pub body_bytes: i64,
    /// Whether it is an envelope. One that is not can only be discarded.
    pub decodable: bool,
    /// Why, in a word.
    pub reason: String,
    /// The last error with its causes.
    pub error: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it failed first, if that is known.
    pub first_failed_at: Option<DateTime<Utc>>,
    /// When it failed for the last time.
    pub failed_at: DateTime<Utc>,
    /// When it came into the archive.
    pub archived_at: DateTime<Utc>,
    /// Where the broker says it came from.
    pub origin: String,
    /// What became of it.
    pub state: LetterState,
    /// When it was last replayed.
    pub replayed_at: Option<DateTime<Utc>>,
    /// How often the message was replayed.
    pub replay_count: i32,
    /// Who replayed or discarded it.
    pub resolved_by: Option<String>,
    /// When.
    pub resolved_at: Option<DateTime<Utc>>,
}

/// All of a letter but its body.
const COLUMNS: &str =
    "id, queue, message_id, kind, decodable, reason, error, attempts, first_failed_at, failed_at,
    archived_at, origin, state, replayed_at, replay_count, resolved_by, resolved_at,
    coalesce(octet_length(body), octet_length(body_raw), 0)::bigint AS body_bytes";

impl DeadLetter {
    /// Of a row with `body` and `body_raw` too.
    fn read_whole(row: &PgRow) -> sqlx::Result<Self> {
        let body = match row.try_get::<Option<String>, _>("body")? {
            Some(text) => text,
            None => String::from_utf8_lossy(row.try_get("body_raw")?).into_owned(),
        };
        Ok(Self { body: Some(body), ..Self::read(row)? })
    }

    fn read(row: &PgRow) -> sqlx::Result<Self> {
        let state = match row.try_get("state")? {
            "replayed" => LetterState::Replayed,
            "discarded" => LetterState::Discarded,
            _ => LetterState::Open,
        };
        Ok(Self {
            id: row.try_get("id")?,
            queue: row.try_get("queue")?,
            message_id: row.try_get("message_id")?,
            kind: row.try_get("kind")?,
            body: None,
            body_bytes: row.try_get("body_bytes")?,
            decodable: row.try_get("decodable")?,
            reason: row.try_get("reason")?,
            error: row.try_get("error")?,
            attempts: row.try_get("attempts")?,
            first_failed_at: row.try_get("first_failed_at")?,
            failed_at: row.try_get("failed_at")?,
            archived_at: row.try_get("archived_at")?,
            origin: row.try_get("origin")?,
            state,
            replayed_at: row.try_get("replayed_at")?,
            replay_count: row.try_get("replay_count")?,
            resolved_by: row.try_get("resolved_by")?,
            resolved_at: row.try_get("resolved_at")?,
        })
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The `next` of the page before; none for the first.
    pub after: Option<String>,
    /// Letters a page, 1 to 200; 0 means 50.
    pub size: u32,
}

/// A page of letters, newest failure first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pages {
    /// The letters.
    pub items: Vec<DeadLetter>,
    /// What asks for the next page; none on the last.
    pub next: Option<String>,
}

fn cursor(letter: &DeadLetter) -> String {
    format!("{}_{}", letter.failed_at.timestamp_micros(), letter.id.simple())
}

fn parse_cursor(text: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (micros, id) = text.split_once('_')?;
    let failed_at = DateTime::from_timestamp_micros(micros.parse().ok()?).and_then(storable::time)?;
    Some((failed_at, id.parse().ok()?))
}

/// How many open letters each of these queues has; none of those that have none.
///
/// # Errors
/// The database.
pub async fn open_by_queue(pool: &PgPool, queues: &[&str]) -> Result<HashMap<String, i64>, Error> {
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT queue, count(*) FROM dead_letters WHERE queue = ANY($1) AND state = 'open' GROUP BY queue",
    )
    .bind(queues)
    .fetch_all(pool)
    .await?;
    Ok(counts.into_iter().collect())
}

/// Lists letters, newest failure first. A page begins after the last letter of the page before it, so that
/// letters that arrive meanwhile shift nothing. An `after` that is no cursor gives the first page.
///
/// # Errors
/// The database.
pub async fn list(pool: &PgPool, filter: &Filter, page: &Page) -> Result<Pages, Error> {
    let filter = filter.storable();
    let size = if page.size == 0 { 50 } else { page.size.min(200) };
    let after = page.after.as_deref().and_then(parse_cursor);
    // Planned for its arguments each time, so that a filter that is absent costs nothing.
    let statement = format!(
        "SELECT {COLUMNS} FROM dead_letters
         WHERE ($1::text IS NULL OR queue = $1) AND ($2::text IS NULL OR kind = $2)
           AND ($3::text IS NULL OR position(lower($3) IN lower(reason || ' ' || error)) > 0)
           AND ($4::text IS NULL OR state = $4)
           AND ($5::timestamptz IS NULL OR failed_at >= $5) AND ($6::timestamptz IS NULL OR failed_at < $6)
           AND ($7::timestamptz IS NULL OR (failed_at, id) < ($7, $8))
         ORDER BY failed_at DESC, id DESC LIMIT $9"
    );
    // Safe: the columns are a constant.
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(&filter.queue)
        .bind(&filter.kind)
        .bind(&filter.reason)
        .bind(filter.state.map(LetterState::name))
        .bind(filter.from)
        .bind(filter.to)
        .bind(after.map(|(failed_at, _)| failed_at))
        .bind(after.map(|(_, id)| id))
        .bind(i64::from(size) + 1)
        .persistent(false)
        .fetch_all(pool)
        .await?;
    let mut items = rows.iter().map(DeadLetter::read).collect::<sqlx::Result<Vec<_>>>()?;
    let more = items.len() > size as usize;
    items.truncate(size as usize);
    let next = items.last().filter(|_| more).map(cursor);
    Ok(Pages { items, next })
}

/// One letter with its body, by the archive's id.
///
/// # Errors
/// The database.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<DeadLetter>, Error> {
    let statement = format!("SELECT {COLUMNS}, body, body_raw FROM dead_letters WHERE id = $1");
    // Safe: the columns are a constant.
    let row = sqlx::query(AssertSqlSafe(statement)).bind(id).fetch_optional(pool).await?;
    Ok(row.as_ref().map(DeadLetter::read_whole).transpose()?)
}

/// Who replayed and discarded what, newest first: `limit` entries (1 to 200) older than entry `before`.
///
/// # Errors
/// The database.
pub async fn audit(pool: &PgPool, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, Error> {
    let rows = sqlx::query("SELECT * FROM dead_letter_audit WHERE id < $1 ORDER BY id DESC LIMIT $2")
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit.clamp(1, 200)))
        .fetch_all(pool)
        .await?;
    Ok(rows.iter().map(AuditEntry::read).collect::<sqlx::Result<_>>()?)
}
