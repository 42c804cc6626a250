//! Annotated workbooks: one an import, made by a job when somebody asks for it.

use sea_orm::sqlx::{self, FromRow, PgConnection, PgExecutor, Row as _, postgres::PgRow};
use uuid::Uuid;

/// An annotated workbook, made or on its way.
#[derive(Clone, Debug)]
pub struct Report {
    pub import_id: Uuid,
    /// The job that makes it.
    pub job_id: Uuid,
    /// Where it is in S3, once it is made.
    pub object_key: Option<String>,
    pub size_bytes: Option<i64>,
    /// The job's state and error.
    pub state: String,
    pub error: Option<String>,
}

impl FromRow<'_, PgRow> for Report {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            import_id: row.try_get("import_id")?,
            job_id: row.try_get("job_id")?,
            object_key: row.try_get("object_key")?,
            size_bytes: row.try_get("size_bytes")?,
            state: row.try_get("state")?,
            error: row.try_get("error")?,
        })
    }
}

const SELECT: &str = "
    select r.import_id, r.job_id, r.object_key, r.size_bytes, j.state, j.error
    from import_reports r join jobs j on j.id = r.job_id";

/// The report of an import.
pub async fn of_import(executor: impl PgExecutor<'_>, import: Uuid) -> sqlx::Result<Option<Report>> {
    let query = format!("{SELECT} where r.import_id = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(import).fetch_optional(executor).await
}

/// The report that a job makes.
pub async fn of_job(executor: impl PgExecutor<'_>, job: Uuid) -> sqlx::Result<Option<Report>> {
    let query = format!("{SELECT} where r.job_id = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(job).fetch_optional(executor).await
}

/// Writes the row of a report that a new job makes. False: there is one already.
pub async fn create(conn: &mut PgConnection, import: Uuid, job: Uuid) -> sqlx::Result<bool> {
    const STATEMENT: &str = "
        insert into import_reports (import_id, job_id) values ($1, $2) on conflict (import_id) do nothing";
    let done = sqlx::query(STATEMENT).bind(import).bind(job).execute(conn).await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets a report that could not be made, so that it can be asked for again.
pub async fn forget(conn: &mut PgConnection, job: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from import_reports where job_id = $1").bind(job).execute(conn).await.map(drop)
}

/// Forgets the report of an import whose rows go on. Its workbook goes with the objects that no row names.
pub async fn forget_of(conn: &mut PgConnection, import: Uuid) -> sqlx::Result<()> {
    sqlx::query("delete from import_reports where import_id = $1").bind(import).execute(conn).await.map(drop)
}

/// Notes where the report is, in the transaction that ends its job.
pub async fn record_object(
    conn: &mut PgConnection,
    job: Uuid,
    object_key: &str,
    size_bytes: u64,
) -> sqlx::Result<()> {
    sqlx::query("update import_reports set object_key = $2, size_bytes = $3 where job_id = $1")
        .bind(job)
        .bind(object_key)
        .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
        .execute(conn)
        .await
        .map(drop)
}
