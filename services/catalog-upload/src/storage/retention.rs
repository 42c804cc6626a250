//! What is deleted once it is old. SQL by hand: what is due depends on jobs, whose table is of another crate; ledgers are
//! deleted a part at a time; and a bucket's keys are compared with the rows.

use std::time::Duration;

use chassis::db::{Orm, sql};
use chrono::{DateTime, Utc};
use sea_orm::{
    DbErr, FromQueryResult,
    sqlx::{self, AssertSqlSafe, PgConnection, PgPool},
};
use uuid::Uuid;

use super::{imports, reports};

/// What holds rows of files: tables without a foreign key to `imports`, for the sake of speed.
pub(super) const LEDGERS: [&str; 8] = [
    "import_changes",
    "import_creations",
    "import_updates",
    "import_unchanged",
    "import_rejections",
    "import_warnings",
    "import_plan",
    "import_claims",
];

/// Rows deleted in one statement.
const CHUNK: i64 = 10_000;

/// An import whose file, report and ledger are due.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Due {
    pub id: Uuid,
    pub object_key: String,
    /// Whether a younger import needs the same file.
    pub shared: bool,
    pub report_key: Option<String>,
}

/// What is due of imports that ended longer ago than `$1` seconds.
const DUE: &str = "
    select i.id, i.created_at, i.object_key, r.object_key as report_key,
        exists (select from imports o where o.object_key = i.object_key and o.id <> i.id
            and o.purged_at is null) as shared
    from imports i join jobs j on j.id = i.id left join import_reports r on r.import_id = i.id
    where i.purged_at is null and j.finished_at < now() - make_interval(secs => $1)
        -- A task that goes on with this one needs what it has.
        and not exists (
            select from imports d join jobs dj on dj.id = d.id where d.applies = i.id and dj.finished_at is null)
        and not exists (
            select from imports d join jobs dj on dj.id = d.id where d.corrects = i.id and dj.finished_at is null)
        and not exists (
            select from imports d join jobs dj on dj.id = d.id where d.undoes = i.id and dj.finished_at is null)";

/// The oldest imports that ended longer ago than `age`, each with when it began; those after one of them.
pub async fn due(
    pool: &PgPool,
    age: Duration,
    after: Option<(Uuid, DateTime<Utc>)>,
    size: i64,
) -> sqlx::Result<Vec<(Uuid, DateTime<Utc>)>> {
    let query = format!(
        "select id, created_at from (
            {DUE} and ($3::timestamptz is null or (i.created_at, i.id) > ($3, $4))
            order by i.created_at, i.id limit $2) due"
    );
    sqlx::query_as(AssertSqlSafe(query))
        .bind(age.as_secs_f64())
        .bind(size)
        .bind(after.map(|(_, at)| at))
        .bind(after.map(|(id, _)| id))
        .fetch_all(pool)
        .await
}

/// Holds an import of [`due`] until the transaction ends, so that nobody goes on with it or with its file meanwhile, and
/// gives what is due of it. None: somebody just has, and it is not due any more.
pub async fn hold_due(conn: &mut PgConnection, import: Uuid, age: Duration) -> Result<Option<Due>, DbErr> {
    // A statement of its own: the next one sees what was committed while this one waited.
    imports::hold(&Orm::on(conn), import).await?;
    let query = sql(format!("{DUE} and i.id = $2"), [age.as_secs_f64().into(), import.into()]);
    Due::find_by_statement(query).one(&Orm::on(conn)).await
}

/// Deletes the ledger of an import that `holder` holds, a chunk at a time, and notes in its transaction that it is gone.
/// The import's own row, with its sums, stays.
pub async fn purge(pool: &PgPool, holder: &mut PgConnection, import: Uuid) -> anyhow::Result<()> {
    for table in LEDGERS {
        let statement = format!(
            "delete from {table} where ctid = any (array(
                select ctid from {table} where import_id = $1 limit {CHUNK}))"
        );
        while sqlx::query(AssertSqlSafe(statement.clone())).bind(import).execute(pool).await?.rows_affected()
            == CHUNK as u64
        {}
    }
    reports::forget_of(holder, import).await?;
    imports::purged(holder, import).await?;
    Ok(())
}

/// Which of these objects no import names that still has its file.
pub async fn unnamed(pool: &PgPool, keys: Vec<String>) -> sqlx::Result<Vec<String>> {
    const QUERY: &str = "
        select key from unnest($1::text[]) as key
        where not exists (select from imports i where i.object_key = key and i.purged_at is null)
            and not exists (select from import_reports r where r.object_key = key)";
    sqlx::query_scalar(QUERY).bind(keys).fetch_all(pool).await
}
