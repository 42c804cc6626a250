//! `imports`: what was brought in, from where, on what grounds. SQL by hand to find one by its job, whose table is of
//! another crate, to number it after all others in one statement, and for the advisory lock.

use std::collections::BTreeMap;

use chassis::db::{NoRelation as Relation, Orm, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    FromJsonQueryResult, QuerySelect as _, SelectExt as _, UpdateMany,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{batches::Sums, contacts, newest_after};
use crate::domain::source::{Kind, Mapping};

/// What may be chosen of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Mode {
    /// Into an empty table, without indexes meanwhile.
    #[sea_orm(string_value = "fast")]
    Fast,
    /// Into a table that has contacts and goes on being used.
    #[sea_orm(string_value = "merge")]
    Merge,
    /// Nowhere.
    #[sea_orm(string_value = "dry_run")]
    DryRun,
}

impl Mode {
    /// Its name in APIs and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Merge => "merge",
            Self::DryRun => "dry_run",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "imports")]
pub struct Model {
    /// Its job's id too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// What contacts, rejects and merges carry of it; the database gives it.
    pub number: i32,
    /// The file's name.
    pub source: String,
    pub kind: Kind,
    pub object_key: Option<String>,
    pub path: Option<String>,
    pub fingerprint: Option<String>,
    pub consent: String,
    #[sea_orm(column_type = "JsonBinary")]
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
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub report: Option<Json>,
    /// Seconds by step.
    #[sea_orm(column_type = "JsonBinary")]
    pub timings: Json,
    pub rolled_back_at: Option<DateTime<Utc>>,
    /// Among the attempts of all imports, which take turns: its first and its last one.
    pub first_turn: Option<i64>,
    pub last_turn: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

/// An import's row.
pub type Import = Model;

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
pub async fn insert(conn: &mut PgConnection, import: &NewImport<'_>) -> Result<(), DbErr> {
    let row = ActiveModel {
        id: Set(import.id),
        source: Set(import.source.to_owned()),
        kind: Set(import.kind),
        object_key: Set(import.object_key.map(str::to_owned)),
        path: Set(import.path.map(str::to_owned)),
        fingerprint: Set(import.fingerprint.map(str::to_owned)),
        consent: Set(import.consent.to_owned()),
        options: Set(import.options.clone()),
        imported_by: Set(import.imported_by.to_owned()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// One import.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<Import>, DbErr> {
    Entity::find_by_id(id).one(&orm(pool)).await
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

fn change(id: Uuid) -> UpdateMany<Entity> {
    Entity::update_many().filter(Column::Id.eq(id))
}

/// Writes where an import's file is now.
pub async fn set_path(pool: &PgPool, id: Uuid, path: Option<&str>) -> Result<(), DbErr> {
    let path = ActiveModel { path: Set(path.map(str::to_owned)), ..Default::default() };
    change(id).set(path).exec(&orm(pool)).await.map(drop)
}

/// Whether there is any contact.
pub async fn has_contacts(pool: &PgPool) -> Result<bool, DbErr> {
    contacts::Entity::find().exists(&orm(pool)).await
}

/// Takes the turn of imports until the caller's transaction ends, however long that takes. False: somebody else has it.
pub async fn try_turn(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query("set local idle_in_transaction_session_timeout = 0").execute(&mut *conn).await?;
    sqlx::query_scalar("select pg_try_advisory_xact_lock(hashtext(current_schema() || '.contact imports'))")
        .fetch_one(conn)
        .await
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
) -> Result<Mode, DbErr> {
    let orm = Orm::on(conn);
    let mode = if import.options.dry_run {
        Mode::DryRun
    } else if contacts::Entity::find().exists(&orm).await? {
        Mode::Merge
    } else {
        Mode::Fast
    };
    let options = Options { batch_size: Some(batch), ..import.options.clone() };
    let begun = ActiveModel {
        mode: Set(Some(mode)),
        fingerprint: Set(Some(fingerprint.to_owned())),
        options: Set(options),
        ..Default::default()
    };
    change(import.id).set(begun).exec(&orm).await?;
    Ok(mode)
}

/// Writes what it came to, in the transaction that ends its job. A dry run has no sums.
pub async fn record_end(
    conn: &mut PgConnection,
    id: Uuid,
    sums: Option<&Sums>,
    report: &Value,
) -> Result<(), DbErr> {
    let end = ActiveModel {
        source_rows: Set(sums.map(|sums| sums.rows)),
        created: Set(sums.map(|sums| sums.created)),
        updated: Set(sums.map(|sums| sums.updated)),
        unchanged: Set(sums.map(|sums| sums.unchanged)),
        merged: Set(sums.map(|sums| sums.merged)),
        rejected: Set(sums.map(|sums| sums.rejected)),
        report: Set(Some(report.clone())),
        ..Default::default()
    };
    change(id).set(end).exec(&Orm::on(conn)).await.map(drop)
}

/// What each step took so far, in seconds.
pub async fn timings(pool: &PgPool, id: Uuid) -> Result<BTreeMap<String, f64>, DbErr> {
    let import = get(pool, id).await?.ok_or_else(|| DbErr::RecordNotFound(format!("import {id}")))?;
    serde_json::from_value(import.timings).map_err(|error| DbErr::Json(error.to_string()))
}

/// Adds `seconds` to what a step took.
pub async fn add_time(pool: &PgPool, id: Uuid, step: &str, seconds: f64) -> Result<(), DbErr> {
    let sum = Expr::cust_with_values(
        "timings || jsonb_build_object($1::text, coalesce((timings ->> $1)::float8, 0) + $2::float8)",
        [sea_orm::Value::from(step), sea_orm::Value::from(seconds)],
    );
    change(id).col_expr(Column::Timings, sum).exec(&orm(pool)).await.map(drop)
}

/// Imports, the latest first, after the one of the cursor.
pub async fn list(pool: &PgPool, after: Option<Uuid>, limit: i64) -> Result<Vec<Import>, DbErr> {
    let query = newest_after::<Entity>((Column::CreatedAt, Column::Id), after);
    query.limit(limit.unsigned_abs()).all(&orm(pool)).await
}

/// The number of an import: its place among all of them.
pub async fn number(conn: &mut PgConnection, id: Uuid) -> Result<i32, DbErr> {
    let number = Entity::find().select_only().column(Column::Number).filter(Column::Id.eq(id));
    let number = number.into_tuple().one(&Orm::on(conn)).await?;
    number.ok_or_else(|| DbErr::RecordNotFound(format!("import {id}")))
}

/// Jobs of these kinds that nobody holds and whose end somebody asked for, each with its kind.
pub async fn unheld_to_cancel(pool: &PgPool, kinds: &[&str]) -> sqlx::Result<Vec<(Uuid, String)>> {
    sqlx::query_as(
        "select id, kind from jobs where kind = any($1) and state in ('pending', 'running')
             and cancel_requested_at is not null and (lease_until is null or lease_until < clock_timestamp())",
    )
    .bind(kinds)
    .fetch_all(pool)
    .await
}

/// Which of these objects are an import's, and whether it needs them still: it has not ended, or not before `ended_before`.
pub async fn uses_of(
    conn: &mut PgConnection,
    keys: &[String],
    ended_before: DateTime<Utc>,
) -> sqlx::Result<Vec<(String, bool)>> {
    sqlx::query_as(
        "select i.object_key, coalesce(j.state in ('pending', 'running'), false) or coalesce(j.finished_at, i.created_at) > $2
         from imports i left join jobs j using (id) where i.object_key = any($1)",
    )
    .bind(keys)
    .bind(ended_before)
    .fetch_all(conn)
    .await
}
