//! What is deleted once it is old.

use std::time::Duration;

use sea_orm::sqlx::{self, AssertSqlSafe, FromRow, PgPool, Row as _, postgres::PgRow};
use uuid::Uuid;

/// What holds rows of files: tables without a foreign key to `imports`, for the sake of speed.
pub(super) const LEDGERS: [&str; 5] =
    ["import_changes", "import_creations", "import_rejections", "import_warnings", "import_plan"];

/// Rows deleted in one statement.
const CHUNK: i64 = 10_000;

/// An import whose file, report and ledger are due.
#[derive(Clone, Debug)]
pub struct Due {
    pub id: Uuid,
    pub object_key: String,
    /// Whether a younger import needs the same file.
    pub shared: bool,
    pub report_key: Option<String>,
}

impl FromRow<'_, PgRow> for Due {
    fn from_row(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.try_get("id")?,
            object_key: row.try_get("object_key")?,
            shared: row.try_get("shared")?,
            report_key: row.try_get("report_key")?,
        })
    }
}

/// The oldest imports that ended longer ago than `age`.
pub async fn due(pool: &PgPool, age: Duration, size: i64) -> sqlx::Result<Vec<Due>> {
    const QUERY: &str = "
        select i.id, i.object_key, r.object_key as report_key,
            exists (select from imports o where o.object_key = i.object_key and o.id <> i.id
                and o.purged_at is null) as shared
        from imports i join jobs j on j.id = i.id left join import_reports r on r.import_id = i.id
        where i.purged_at is null and j.finished_at < now() - make_interval(secs => $1)
        order by i.created_at limit $2";
    sqlx::query_as(QUERY).bind(age.as_secs_f64()).bind(size).fetch_all(pool).await
}

/// Deletes the ledger of an import, a chunk at a time, and notes that it is gone. The import's own row, with
/// its sums, stays.
pub async fn purge(pool: &PgPool, import: Uuid) -> sqlx::Result<()> {
    for table in LEDGERS {
        let statement = format!(
            "delete from {table} where ctid = any (array(
                select ctid from {table} where import_id = $1 limit {CHUNK}))"
        );
        while sqlx::query(AssertSqlSafe(statement.clone())).bind(import).execute(pool).await?.rows_affected()
            == CHUNK as u64
        {}
    }
    let mut transaction = pool.begin().await?;
    sqlx::query("delete from import_reports where import_id = $1")
        .bind(import)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("update imports set purged_at = now() where id = $1")
        .bind(import)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Which of these objects no import names.
pub async fn unknown(pool: &PgPool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    const QUERY: &str = "
        select key from unnest($1::text[]) as key
        where not exists (select from imports i where i.object_key = key)
            and not exists (select from import_reports r where r.object_key = key)";
    sqlx::query_scalar(QUERY).bind(keys).fetch_all(pool).await
}
