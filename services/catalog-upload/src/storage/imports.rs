//! Imports: one row each beside its job, and what became of every row of its file.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{
    self, AssertSqlSafe, FromRow, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgRow, types::Json,
};
use serde_json::Value;
use uuid::Uuid;

use super::copy::CopyRows;
use crate::{
    domain::{Column, RowError},
    status::{Resumen, RowProblem},
};

/// How many errors and ids a status lists; the rest is told by `truncado`.
pub const LISTED: i64 = 1_000;

/// An accepted upload, before its row is written.
#[derive(Debug)]
pub struct NewImport<'a> {
    pub id: Uuid,
    pub proveedor_id: &'a str,
    pub filename: &'a str,
    pub replace_duplicates: bool,
    pub object_key: &'a str,
    pub size_bytes: i64,
    /// Lower-case hexadecimal.
    pub sha256: &'a str,
    pub uploaded_by: &'a str,
}

/// An import with the state of its job.
#[derive(Clone, Debug)]
pub struct Import {
    pub id: Uuid,
    pub proveedor_id: String,
    pub filename: String,
    pub replace_duplicates: bool,
    pub object_key: String,
    /// The job's: pending, running, completed, failed, cancelled.
    pub state: String,
    pub total_rows: Option<i64>,
    pub processed: i64,
    pub successful: i64,
    pub failed: i64,
    /// What a completed job left: the summary and lists of its status.
    pub result: Option<Value>,
    pub error: Option<String>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

impl FromRow<'_, PgRow> for Import {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            proveedor_id: row.try_get("proveedor_id")?,
            filename: row.try_get("filename")?,
            replace_duplicates: row.try_get("replace_duplicates")?,
            object_key: row.try_get("object_key")?,
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
        })
    }
}

const SELECT: &str = "
    select i.id, i.proveedor_id, i.filename, i.replace_duplicates, i.object_key, j.state, j.total, j.processed,
        j.successful, j.failed, j.result, j.error, j.version, i.created_at, j.updated_at, j.finished_at
    from imports i join jobs j on j.id = i.id";

/// Writes the import's row; its job's row is written before, in the same transaction.
pub async fn create(conn: &mut PgConnection, import: &NewImport<'_>) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into imports (id, proveedor_id, filename, replace_duplicates, object_key, size_bytes, sha256, uploaded_by)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(STATEMENT)
        .bind(import.id)
        .bind(import.proveedor_id)
        .bind(import.filename)
        .bind(import.replace_duplicates)
        .bind(import.object_key)
        .bind(import.size_bytes)
        .bind(import.sha256)
        .bind(import.uploaded_by)
        .execute(conn)
        .await
        .map(drop)
}

/// One import, if there is one of that id.
pub async fn get(executor: impl PgExecutor<'_>, id: Uuid) -> sqlx::Result<Option<Import>> {
    let query = format!("{SELECT} where i.id = $1");
    sqlx::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(executor).await
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

/// Whether a row is a product's first or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Created,
    Updated,
}

impl Action {
    const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
        }
    }
}

/// Records the rows that became products.
pub async fn record_changes<'a>(
    conn: &mut PgConnection,
    import: Uuid,
    changes: impl Iterator<Item = (u32, &'a str, Action)>,
) -> sqlx::Result<()> {
    let mut rows = CopyRows::default();
    for (number, product_id, action) in changes {
        rows.raw(import).raw(number).text(product_id).raw(action.name()).end_row();
    }
    rows.send(conn, "import_changes (import_id, row_number, product_id, action)").await
}

/// Records the rows that did not.
pub async fn record_rejections<'a>(
    conn: &mut PgConnection,
    import: Uuid,
    rejections: impl Iterator<Item = &'a RowError>,
) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        insert into import_rejections (import_id, row_number, code, \"column\", value, message)
        select $1, * from unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[])";
    let errors: Vec<&RowError> = rejections.collect();
    if errors.is_empty() {
        return Ok(());
    }
    // Few rows a batch, and one message to the server: a small COPY waits for a delayed TCP acknowledgement.
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(errors.iter().map(|error| error.row as i32).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.code).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.column.map(Column::name)).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.value.as_deref()).collect::<Vec<_>>())
        .bind(errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// The first rejections of an import, in the order of the sheet.
pub async fn first_rejections(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<Vec<RowProblem>> {
    const QUERY: &str = "
        select row_number, message, code, \"column\", value from import_rejections
        where import_id = $1 order by row_number limit $2";
    let rows = sqlx::query(QUERY).bind(import).bind(LISTED).fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            Ok(RowProblem {
                fila: row.try_get("row_number")?,
                error: row.try_get("message")?,
                codigo: row.try_get("code")?,
                columna: row.try_get("column")?,
                valor: row.try_get("value")?,
            })
        })
        .collect()
}

/// The first products an import created or updated, in the order of the sheet.
pub async fn first_changes(
    conn: &mut PgConnection,
    import: Uuid,
    action: Action,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select product_id from import_changes where import_id = $1 and action = $2 order by row_number limit $3",
    )
    .bind(import)
    .bind(action.name())
    .bind(LISTED)
    .fetch_all(conn)
    .await
}

/// Sets the sums of an import that completes.
pub async fn record_summary(conn: &mut PgConnection, import: Uuid, summary: &Resumen) -> sqlx::Result<()> {
    const STATEMENT: &str = "
        update imports set total = $2, accepted = $3, rejected = $4, duplicates = $5, created = $6, updated = $7
        where id = $1";
    sqlx::query(STATEMENT)
        .bind(import)
        .bind(summary.total as i64)
        .bind(summary.exitosos as i64)
        .bind(summary.rechazados as i64)
        .bind(summary.duplicados as i64)
        .bind(summary.productos_creados as i64)
        .bind(summary.productos_actualizados as i64)
        .execute(conn)
        .await
        .map(drop)
}

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    "SELECT format('import %s: its summary says %s accepted and %s rejected, its ledger has %s and %s',
            id, accepted, rejected, changes, rejections)
     FROM (SELECT i.id, i.accepted, i.rejected,
                  (SELECT count(*) FROM import_changes c WHERE c.import_id = i.id) AS changes,
                  (SELECT count(*) FROM import_rejections r WHERE r.import_id = i.id) AS rejections
           FROM imports i JOIN jobs j ON j.id = i.id WHERE j.state = 'completed') AS counted
     WHERE accepted IS DISTINCT FROM changes OR rejected IS DISTINCT FROM rejections LIMIT 20",
    "SELECT format('import %s: row %s is both accepted and rejected', import_id, row_number)
     FROM import_changes JOIN import_rejections USING (import_id, row_number) LIMIT 20",
    "SELECT format('import %s: row %s was accepted %s times', import_id, row_number, count(*))
     FROM import_changes GROUP BY import_id, row_number HAVING count(*) > 1 LIMIT 20",
    // No foreign keys: checking them row by row would be a tenth of an import's time.
    "SELECT DISTINCT format('import %s: there are rows of it, and it does not exist', import_id)
     FROM (SELECT import_id FROM import_changes UNION ALL SELECT import_id FROM import_rejections) AS rows
     WHERE NOT EXISTS (SELECT FROM imports i WHERE i.id = rows.import_id) LIMIT 20",
    "SELECT format('job %s: an import''s job without its import', j.id)
     FROM jobs j LEFT JOIN imports i ON i.id = j.id WHERE j.kind = 'catalog.imports' AND i.id IS NULL LIMIT 20",
];

/// The service's own invariants, for `doctor`: a sentence for each that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(pool).await?);
    }
    Ok(findings)
}
