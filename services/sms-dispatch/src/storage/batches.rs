//! `import_batches`: what is done of an import. SQL by hand for its sums, and for the settings of a loader's transaction.

use chassis::db::{NoRelation as Relation, Orm, orm};
use sea_orm::{
    ActiveValue::Set,
    QueryOrder as _, QuerySelect as _, SelectExt as _,
    entity::prelude::*,
    sqlx::{self, PgConnection, PgPool},
};
use serde_json::Value;

/// In the transaction of the rows themselves.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_batches")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub import: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub phase: BatchPhase,
    #[sea_orm(primary_key, auto_increment = false)]
    pub batch: i64,
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub merged: i64,
    pub staged: i64,
    pub rejected: i64,
    /// Values that lost NUL bytes, bad UTF-8 or what was over their length; dates that made no sense.
    pub repaired: i64,
    /// Of a load, where the next batch begins; of merging, the phone that this one ended with.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub position: Option<Json>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Which half of an import a batch belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum BatchPhase {
    #[default]
    #[sea_orm(string_value = "load")]
    Load,
    #[sea_orm(string_value = "merge")]
    Merge,
}

/// What a batch did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    pub phase: BatchPhase,
    pub batch: i64,
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub merged: i64,
    pub staged: i64,
    pub rejected: i64,
    pub repaired: i64,
    pub position: Option<Value>,
}

/// Lets a loader's transaction take as long as it takes, and commit without waiting for the disk: its checkpoint goes
/// with its rows, so that what a dying server forgets is done again.
pub async fn relax(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "set local synchronous_commit = off; set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan",
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Writes that a batch is done, in its transaction.
pub async fn record(conn: &mut PgConnection, import: i32, done: &Done) -> Result<(), DbErr> {
    let batch = ActiveModel {
        import: Set(import),
        phase: Set(done.phase),
        batch: Set(done.batch),
        rows: Set(done.rows),
        created: Set(done.created),
        updated: Set(done.updated),
        unchanged: Set(done.unchanged),
        merged: Set(done.merged),
        staged: Set(done.staged),
        rejected: Set(done.rejected),
        repaired: Set(done.repaired),
        position: Set(done.position.clone()),
    };
    Entity::insert(batch).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

fn of_phase(import: i32, phase: BatchPhase) -> Select<Entity> {
    let columns = [Column::Batch, Column::Position];
    Entity::find()
        .select_only()
        .columns(columns)
        .filter(Column::Import.eq(import))
        .filter(Column::Phase.eq(phase))
}

/// The batches that are loaded, with where the next one begins.
pub async fn loaded(pool: &PgPool, import: i32) -> Result<Vec<(i64, Option<Value>)>, DbErr> {
    of_phase(import, BatchPhase::Load).order_by_asc(Column::Batch).into_tuple().all(&orm(pool)).await
}

/// The sums over an import's batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows read.
    pub rows: i64,
    pub created: i64,
    pub updated: i64,
    pub unchanged: i64,
    pub merged: i64,
    pub rejected: i64,
    pub repaired: i64,
    pub merge_batches: i64,
}

/// What the batches did so far.
pub async fn sums(conn: &mut PgConnection, import: i32) -> sqlx::Result<Sums> {
    let (rows, created, updated, unchanged, merged, rejected, repaired, merge_batches) =
        sqlx::query_as::<_, (i64, i64, i64, i64, i64, i64, i64, i64)>(
            "select coalesce(sum(rows) filter (where phase = 'load'), 0)::bigint,
                    coalesce(sum(created), 0)::bigint, coalesce(sum(updated), 0)::bigint,
                    coalesce(sum(unchanged), 0)::bigint, coalesce(sum(merged), 0)::bigint,
                    coalesce(sum(rejected), 0)::bigint, coalesce(sum(repaired), 0)::bigint,
                    count(*) filter (where phase = 'merge')
             from import_batches where import = $1",
        )
        .bind(import)
        .fetch_one(conn)
        .await?;
    Ok(Sums { rows, created, updated, unchanged, merged, rejected, repaired, merge_batches })
}

/// Whether imports other than this one have brought contacts in that were not rolled back.
pub async fn of_others(pool: &PgPool, import: i32) -> Result<bool, DbErr> {
    Entity::find().filter(Column::Import.ne(import)).filter(Column::Created.gt(0)).exists(&orm(pool)).await
}

/// The number of the last batch of merging, and the phone it ended with.
pub async fn last_merge(pool: &PgPool, import: i32) -> Result<(i64, String), DbErr> {
    let last = of_phase(import, BatchPhase::Merge).order_by_desc(Column::Batch);
    let last: Option<(i64, Option<Value>)> = last.into_tuple().one(&orm(pool)).await?;
    let phone = |value: Value| value.as_str().unwrap_or_default().to_owned();
    Ok(last.map_or_else(Default::default, |(batch, to)| (batch, to.map(phone).unwrap_or_default())))
}
