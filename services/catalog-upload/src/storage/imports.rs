//! Imports: one row each beside its job.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{
    self, AssertSqlSafe, FromRow, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgRow, types::Json,
};
use serde_json::Value;
use uuid::Uuid;

use ::jobs::{Progress, State};

use crate::{domain::Summary, status::ImportResult};

/// What an import is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its rows become products.
    Import,
    /// What would become of its rows is told, and nothing written.
    DryRun,
    /// It takes another import back.
    Undo,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::DryRun => "dry_run",
            Self::Undo => "undo",
        }
    }

    fn parse(name: &str) -> sqlx::Result<Self> {
        match name {
            "import" => Ok(Self::Import),
            "dry_run" => Ok(Self::DryRun),
            "undo" => Ok(Self::Undo),
            other => Err(sqlx::Error::Decode(format!("unknown kind of import {other:?}").into())),
        }
    }
}

/// What holds for all rows of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub kind: Kind,
    /// Whether a row may change a product that is there already.
    pub replace_duplicates: bool,
    /// Whether one bad row refuses them all.
    pub all_or_nothing: bool,
    /// The dry run that this one carries out.
    pub applies: Option<Uuid>,
    /// The import whose rejected rows alone are read.
    pub corrects: Option<Uuid>,
    /// The import that is taken back.
    pub undoes: Option<Uuid>,
    /// The sheet that is read; none: the first that has rows.
    pub sheet: Option<String>,
}

/// A stored file and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub proveedor_id: String,
    pub filename: String,
    pub object_key: String,
    pub size_bytes: i64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// An import with the state of its job.
#[derive(Clone, Debug)]
pub struct Import {
    pub id: Uuid,
    pub source: Source,
    pub options: Options,
    /// The job's: pending, running, completed, failed, cancelled.
    pub state: String,
    pub total_rows: Option<i64>,
    pub processed: i64,
    pub successful: i64,
    pub failed: i64,
    /// What it came to, once it has ended.
    pub result: Option<Value>,
    pub error: Option<String>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// When its file and ledger were deleted.
    pub purged_at: Option<DateTime<Utc>>,
}

impl Import {
    /// The same while it runs and is so far.
    pub fn running(&self, progress: &Progress) -> Self {
        Self {
            state: State::Running.name().to_owned(),
            total_rows: progress.total,
            processed: progress.processed,
            successful: progress.successful,
            failed: progress.failed,
            updated_at: Utc::now(),
            ..self.clone()
        }
    }

    /// Whether nothing more will happen to it.
    pub fn has_ended(&self) -> bool {
        !matches!(self.state.as_str(), "pending" | "running")
    }
}

impl FromRow<'_, PgRow> for Import {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            source: Source {
                proveedor_id: row.try_get("proveedor_id")?,
                filename: row.try_get("filename")?,
                object_key: row.try_get("object_key")?,
                size_bytes: row.try_get("size_bytes")?,
                sha256: row.try_get("sha256")?,
            },
            options: Options {
                kind: Kind::parse(row.try_get("kind")?)?,
                replace_duplicates: row.try_get("replace_duplicates")?,
                all_or_nothing: row.try_get("all_or_nothing")?,
                applies: row.try_get("applies")?,
                corrects: row.try_get("corrects")?,
                undoes: row.try_get("undoes")?,
                sheet: row.try_get("sheet")?,
            },
            state: row.try_get("state")?,
            total_rows: row.try_get("total")?,
            processed: row.try_get("processed")?,
            successful: row.try_get("successful")?,
            failed: row.try_get("failed")?,
            result: row.try_get::<Option<Json<Value>>, _>("result")?.map(|json| json.0),
            error: row.try_get("error")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            finished_at: row.try_get("finished_at")?,
            purged_at: row.try_get("purged_at")?,
        })
    }
}

const SELECT: &str = "
    select i.id, i.proveedor_id, i.filename, i.object_key, i.size_bytes, i.sha256, i.kind, i.replace_duplicates,
        i.all_or_nothing, i.applies, i.corrects, i.undoes, i.sheet, i.result, i.purged_at, j.state, j.total, j.processed,
        j.successful, j.failed, j.error, j.version, i.created_at, j.updated_at, j.finished_at
    from imports i join jobs j on j.id = i.id";

/// Writes the import's row; its job's row is written before, in the same transaction.
pub async fn create(
    conn: &mut PgConnection,
    id: Uuid,
    source: &Source,
    options: &Options,
    uploaded_by: &str,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into imports (id, proveedor_id, filename, object_key, size_bytes, sha256, kind, replace_duplicates,
            all_or_nothing, applies, corrects, undoes, uploaded_by, sheet)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    sqlx::query(STATEMENT)
        .bind(id)
        .bind(&source.proveedor_id)
        .bind(&source.filename)
        .bind(&source.object_key)
        .bind(source.size_bytes)
        .bind(&source.sha256)
        .bind(options.kind.name())
        .bind(options.replace_duplicates)
        .bind(options.all_or_nothing)
        .bind(options.applies)
        .bind(options.corrects)
        .bind(options.undoes)
        .bind(uploaded_by)
        .bind(&options.sheet)
        .execute(conn)
        .await
        .map(drop)
}

/// One import, if there is one of that id.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Import>> {
    let query = format!("{SELECT} where i.id = $1");
    sqlx::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(executor).await
}

/// [`get`], and nobody else changes what follows from it until the transaction ends: two people who ask at
/// once to apply, undo or retry an import take turns.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Import>> {
    sqlx::query("select from imports where id = $1 for update").bind(id).execute(&mut *conn).await?;
    get(conn, id).await
}

/// An import that goes on has words to come.
pub async fn go_on(conn: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query("update imports set indexed = false where id = $1").bind(id).execute(conn).await.map(drop)
}

/// The import that carries this dry run out, if one does.
pub async fn applying(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Import>> {
    let query = format!("{SELECT} where i.applies = $1");
    sqlx::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(executor).await
}

/// The undo of this import, if there is one.
pub async fn undoing(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Import>> {
    let query = format!("{SELECT} where i.undoes = $1");
    sqlx::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(executor).await
}

/// An import of the same content for the same supplier with the same options that has not ended. Who asks
/// holds a lock on the content until their own transaction ends, so that of two uploads at once the
/// second finds the first.
pub async fn unfinished(
    conn: &mut PgConnection,
    source: &Source,
    options: &Options,
) -> sqlx::Result<Option<Import>> {
    const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0))";
    sqlx::query(LOCK).bind(&source.sha256).bind(&source.proveedor_id).execute(&mut *conn).await?;
    let query = format!(
        "{SELECT}
        where i.sha256 = $1 and i.proveedor_id = $2 and i.kind = $3 and i.replace_duplicates = $4
            and i.all_or_nothing = $5 and i.corrects is not distinct from $6 and i.applies is null
            -- The same bytes may be read as a workbook or as text.
            and lower(right(i.filename, 4)) = lower(right($7, 4))
            and i.sheet is not distinct from $8
            and j.state in ('pending', 'running') and j.cancel_requested_at is null
        order by i.created_at limit 1"
    );
    sqlx::query_as(AssertSqlSafe(query))
        .bind(&source.sha256)
        .bind(&source.proveedor_id)
        .bind(options.kind.name())
        .bind(options.replace_duplicates)
        .bind(options.all_or_nothing)
        .bind(options.corrects)
        .bind(&source.filename)
        .bind(&options.sheet)
        .fetch_optional(conn)
        .await
}

/// A page of imports, newest first, of one supplier or of all, older than `before`.
pub async fn list(
    pool: &PgPool,
    proveedor_id: Option<&str>,
    before: Option<(DateTime<Utc>, Uuid)>,
    size: i64,
) -> sqlx::Result<Vec<Import>> {
    let query = format!(
        "{SELECT}
        where ($1::text is null or i.proveedor_id = $1)
            and ($2::timestamptz is null or (i.created_at, i.id) < ($2, $3))
        order by i.created_at desc, i.id desc limit $4"
    );
    let (time, id) = before.unzip();
    sqlx::query_as(AssertSqlSafe(query))
        .bind(proveedor_id)
        .bind(time)
        .bind(id)
        .bind(size)
        .fetch_all(pool)
        .await
}

/// Sets what an import that ends came to. The sums of an undo count removed and restored products as
/// accepted; created and updated are an import's.
pub async fn record_end(
    conn: &mut PgConnection,
    id: Uuid,
    kind: Kind,
    summary: &Summary,
    result: &ImportResult,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        update imports set total = $2, accepted = $3, rejected = $4, duplicates = $5, created = $6, updated = $7,
            unchanged = $8, result = $9
        where id = $1";
    let of_import = |count: u64| (kind != Kind::Undo).then_some(count as i64);
    sqlx::query(STATEMENT)
        .bind(id)
        .bind(summary.total as i64)
        .bind(summary.accepted as i64)
        .bind(summary.rejected as i64)
        .bind(summary.duplicates as i64)
        .bind(of_import(summary.created))
        .bind(of_import(summary.updated))
        .bind(summary.unchanged as i64)
        .bind(Json(result))
        .execute(conn)
        .await
        .map(drop)
}
