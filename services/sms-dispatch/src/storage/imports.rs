//! Imports: what was brought in, from where, on what grounds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, FromRow, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::batches::Sums;
use crate::import::{csv::Mapping, source::Kind};

/// What may be chosen of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Only count what would become of the rows.
    pub dry_run: bool,
    /// Only the first rows.
    pub limit: Option<u64>,
    /// Rows a batch; it can't change once an import has begun, for its batches are numbered.
    pub batch_size: Option<i64>,
    pub mapping: Mapping,
}

/// How an import writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Into an empty table, without indexes meanwhile.
    Fast,
    /// Into a table that has contacts and goes on being used.
    Merge,
    /// Nowhere.
    DryRun,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Merge => "merge",
            Self::DryRun => "dry_run",
        }
    }

    fn parse(name: &str) -> sqlx::Result<Self> {
        Ok(match name {
            "fast" => Self::Fast,
            "merge" => Self::Merge,
            "dry_run" => Self::DryRun,
            other => return Err(sqlx::Error::Decode(format!("unknown mode {other:?}").into())),
        })
    }
}

/// An import's row.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its job's id too.
    pub id: Uuid,
    pub number: i32,
    /// The file's name.
    pub source: String,
    pub kind: Kind,
    pub object_key: Option<String>,
    pub path: Option<String>,
    pub fingerprint: Option<String>,
    pub consent: String,
    pub options: Options,
    pub mode: Option<Mode>,
    pub imported_by: String,
    pub created_at: DateTime<Utc>,
    /// What it came to; none before it completes.
    pub source_rows: Option<i64>,
    pub created: Option<i64>,
    pub updated: Option<i64>,
    pub unchanged: Option<i64>,
    pub merged: Option<i64>,
    pub rejected: Option<i64>,
    pub report: Option<Value>,
    pub rolled_back_at: Option<DateTime<Utc>>,
}

impl FromRow<'_, PgRow> for Import {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        let kind: String = row.try_get("kind")?;
        let decode = |error: serde_json::Error| sqlx::Error::Decode(error.into());
        Ok(Self {
            id: row.try_get("id")?,
            number: row.try_get("number")?,
            source: row.try_get("source")?,
            kind: serde_json::from_value(Value::String(kind)).map_err(decode)?,
            object_key: row.try_get("object_key")?,
            path: row.try_get("path")?,
            fingerprint: row.try_get("fingerprint")?,
            consent: row.try_get("consent")?,
            options: serde_json::from_value(row.try_get("options")?).map_err(decode)?,
            mode: row.try_get::<Option<&str>, _>("mode")?.map(Mode::parse).transpose()?,
            imported_by: row.try_get("imported_by")?,
            created_at: row.try_get("created_at")?,
            source_rows: row.try_get("source_rows")?,
            created: row.try_get("created")?,
            updated: row.try_get("updated")?,
            unchanged: row.try_get("unchanged")?,
            merged: row.try_get("merged")?,
            rejected: row.try_get("rejected")?,
            report: row.try_get("report")?,
            rolled_back_at: row.try_get("rolled_back_at")?,
        })
    }
}

/// An import to be.
#[derive(Clone, Debug)]
pub struct NewImport<'a> {
    pub id: Uuid,
    pub source: &'a str,
    pub kind: Kind,
    pub object_key: Option<&'a str>,
    pub path: Option<&'a str>,
    pub fingerprint: Option<&'a str>,
    pub consent: &'a str,
    pub options: &'a Options,
    pub imported_by: &'a str,
}

/// Writes an import's row, after its job's.
pub async fn insert(conn: &mut PgConnection, import: &NewImport<'_>) -> sqlx::Result<()> {
    let options = serde_json::to_value(import.options).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "insert into imports (id, source, kind, object_key, path, fingerprint, consent, options, imported_by)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(import.id)
    .bind(import.source)
    .bind(import.kind.name())
    .bind(import.object_key)
    .bind(import.path)
    .bind(import.fingerprint)
    .bind(import.consent)
    .bind(options)
    .bind(import.imported_by)
    .execute(conn)
    .await
    .map(drop)
}

/// One import.
pub async fn get(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Import>> {
    sqlx::query_as("select * from imports where id = $1").bind(id).fetch_optional(pool).await
}

/// The latest import of a file with these options that has not ended: what another attempt goes on with.
pub async fn unfinished(
    pool: &PgPool,
    kind: &str,
    fingerprint: &str,
    options: &Options,
) -> sqlx::Result<Option<Uuid>> {
    let options = serde_json::to_value(options).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query_scalar(
        "select i.id from imports i join jobs j using (id)
         where i.fingerprint = $1 and i.options = $2 and j.kind = $3 and j.state in ('pending', 'running')
         order by i.created_at desc limit 1",
    )
    .bind(fingerprint)
    .bind(options)
    .bind(kind)
    .fetch_optional(pool)
    .await
}

/// Writes where an import's file is now.
pub async fn set_path(pool: &PgPool, id: Uuid, path: Option<&str>) -> sqlx::Result<()> {
    sqlx::query("update imports set path = $2 where id = $1")
        .bind(id)
        .bind(path)
        .execute(pool)
        .await
        .map(drop)
}

/// Whether there is any contact.
pub async fn has_contacts<'e>(executor: impl PgExecutor<'e>) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from contacts)").fetch_one(executor).await
}

/// Numbers an attempt that has the turn of imports: what it writes comes after all that attempts before it wrote.
pub async fn number_turn(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update imports set last_turn = t.next,
                first_turn = coalesce(first_turn, case when mode is null then t.next else number end)
         from (select coalesce(max(greatest(number, last_turn)), 0) + 1 as next from imports
               where mode in ('fast', 'merge')) t
         where id = $1",
    )
    .bind(id)
    .execute(pool)
    .await
    .map(drop)
}

/// Decides how the import writes, once and for all its attempts.
pub async fn begin(
    conn: &mut PgConnection,
    import: &Import,
    fingerprint: &str,
    batch: i64,
) -> sqlx::Result<Mode> {
    let mode = if import.options.dry_run {
        Mode::DryRun
    } else if has_contacts(&mut *conn).await? {
        Mode::Merge
    } else {
        Mode::Fast
    };
    sqlx::query(
        "update imports set mode = $2, fingerprint = $3,
                options = jsonb_set(options, '{batch_size}', to_jsonb($4::bigint)) where id = $1",
    )
    .bind(import.id)
    .bind(mode.name())
    .bind(fingerprint)
    .bind(batch)
    .execute(conn)
    .await?;
    Ok(mode)
}

/// Writes what it came to, in the transaction that ends its job. A dry run has no sums.
pub async fn record_end(
    conn: &mut PgConnection,
    id: Uuid,
    sums: Option<&Sums>,
    report: &Value,
) -> sqlx::Result<()> {
    sqlx::query(
        "update imports set source_rows = $2, created = $3, updated = $4, unchanged = $5, merged = $6, rejected = $7,
                report = $8 where id = $1",
    )
    .bind(id)
    .bind(sums.map(|sums| sums.rows))
    .bind(sums.map(|sums| sums.created))
    .bind(sums.map(|sums| sums.updated))
    .bind(sums.map(|sums| sums.unchanged))
    .bind(sums.map(|sums| sums.merged))
    .bind(sums.map(|sums| sums.rejected))
    .bind(report)
    .execute(conn)
    .await
    .map(drop)
}

/// What each step took so far, in seconds.
pub async fn timings(pool: &PgPool, id: Uuid) -> sqlx::Result<BTreeMap<String, f64>> {
    let timings: Value =
        sqlx::query_scalar("select timings from imports where id = $1").bind(id).fetch_one(pool).await?;
    serde_json::from_value(timings).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Adds `seconds` to what a step took.
pub async fn add_time(pool: &PgPool, id: Uuid, step: &str, seconds: f64) -> sqlx::Result<()> {
    sqlx::query(
        "update imports set timings = timings || jsonb_build_object($2::text,
             coalesce((timings ->> $2)::float8, 0) + $3::float8) where id = $1",
    )
    .bind(id)
    .bind(step)
    .bind(seconds)
    .execute(pool)
    .await
    .map(drop)
}

/// Imports, the latest first, after the one of the cursor.
pub async fn list(pool: &PgPool, after: Option<Uuid>, limit: i64) -> sqlx::Result<Vec<Import>> {
    sqlx::query_as(
        "select * from imports where $1::uuid is null
             or (created_at, id) < (select created_at, id from imports where id = $1)
         order by created_at desc, id desc limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}
