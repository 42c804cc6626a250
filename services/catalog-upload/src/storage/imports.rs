//! `imports`: one row each beside its job. SQL by hand to read one with its job, whose table is of another
//! crate.

use chassis::db::{NoRelation as Relation, Orm, columns, sql};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, FromQueryResult, QuerySelect as _, SelectModel, SelectorRaw, UpdateMany, Value,
    entity::prelude::*, sqlx::PgConnection,
};

use ::jobs::{Progress, State};

use crate::domain::{ImportResult, Summary};

/// What an import is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Kind {
    /// Its rows become products.
    #[sea_orm(string_value = "import")]
    Import,
    /// What would become of its rows is told, and nothing written.
    #[sea_orm(string_value = "dry_run")]
    DryRun,
    /// It takes another import back.
    #[sea_orm(string_value = "undo")]
    Undo,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "imports")]
pub struct Model {
    /// That of its job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub proveedor_id: String,
    pub filename: String,
    pub object_key: String,
    pub size_bytes: i64,
    pub sha256: String,
    pub kind: Kind,
    pub replace_duplicates: bool,
    pub all_or_nothing: bool,
    pub applies: Option<Uuid>,
    pub corrects: Option<Uuid>,
    pub undoes: Option<Uuid>,
    pub sheet: Option<String>,
    pub uploaded_by: String,
    pub created_at: DateTime<Utc>,
    /// The sums, once it has ended: total = accepted + rejected; of an import, accepted = created + updated.
    pub total: Option<i32>,
    pub accepted: Option<i32>,
    pub rejected: Option<i32>,
    pub duplicates: Option<i32>,
    pub created: Option<i32>,
    pub updated: Option<i32>,
    /// Of the updated rows, those that changed nothing.
    pub unchanged: i32,
    /// What its status shows once it has ended.
    #[sea_orm(column_type = "JsonBinary")]
    pub result: Option<Json>,
    /// Up to which row of its file the words of its products are written, and whether all are.
    pub indexed_row: i32,
    pub indexed: bool,
    /// When its file and ledger were deleted.
    pub purged_at: Option<DateTime<Utc>>,
}

impl ActiveModelBehavior for ActiveModel {}

/// What holds for all rows of an import.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
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
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Source {
    pub proveedor_id: String,
    pub filename: String,
    pub object_key: String,
    pub size_bytes: i64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// An import with the state of its job.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Import {
    pub id: Uuid,
    #[sea_orm(nested)]
    pub source: Source,
    #[sea_orm(nested)]
    pub options: Options,
    /// The job's, as what follows up to `finished_at`, but for `result` and `created_at`.
    pub state: State,
    pub total_rows: Option<i64>,
    pub processed: i64,
    pub successful: i64,
    pub failed: i64,
    /// What it came to, once it has ended.
    pub result: Option<Json>,
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
            state: State::Running,
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
        self.state.is_final()
    }
}

fn query(rest: &str, values: impl IntoIterator<Item = Value>) -> SelectorRaw<SelectModel<Import>> {
    let text = format!(
        "select {columns}, j.state, j.total as total_rows, j.processed, j.successful, j.failed, j.error, j.version,
            j.updated_at, j.finished_at
        from imports i join jobs j on j.id = i.id {rest}",
        columns = columns::<Entity>("i")
    );
    Import::find_by_statement(sql(text, values))
}

/// Writes the import's row; its job's row is written before, in the same transaction.
pub async fn create(
    conn: &mut PgConnection,
    id: Uuid,
    source: &Source,
    options: &Options,
    uploaded_by: &str,
) -> Result<(), DbErr> {
    let import = ActiveModel {
        id: Set(id),
        proveedor_id: Set(source.proveedor_id.clone()),
        filename: Set(source.filename.clone()),
        object_key: Set(source.object_key.clone()),
        size_bytes: Set(source.size_bytes),
        sha256: Set(source.sha256.clone()),
        kind: Set(options.kind),
        replace_duplicates: Set(options.replace_duplicates),
        all_or_nothing: Set(options.all_or_nothing),
        applies: Set(options.applies),
        corrects: Set(options.corrects),
        undoes: Set(options.undoes),
        sheet: Set(options.sheet.clone()),
        uploaded_by: Set(uploaded_by.to_owned()),
        ..Default::default()
    };
    Entity::insert(import).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// One import, if there is one of that id.
pub async fn get(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Import>, DbErr> {
    query("where i.id = $1", [id.into()]).one(connection).await
}

/// [`get`], and nobody else changes what follows from it until the transaction ends: two people who ask at
/// once to apply, undo or retry an import take turns.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<Import>, DbErr> {
    let orm = Orm::on(conn);
    hold(&orm, id).await?;
    get(&orm, id).await
}

/// Holds an import's row until the transaction ends. What is read after it is what was committed while this waited.
pub(super) async fn hold(connection: &impl ConnectionTrait, id: Uuid) -> Result<(), DbErr> {
    let row = Entity::find_by_id(id).select_only().column(Column::Id).lock_exclusive();
    row.into_tuple::<Uuid>().one(connection).await.map(drop)
}

fn change(id: Uuid, values: ActiveModel) -> UpdateMany<Entity> {
    Entity::update_many().set(values).filter(Column::Id.eq(id))
}

/// An import that goes on has words to come.
pub async fn go_on(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    let unindexed = ActiveModel { indexed: Set(false), ..Default::default() };
    change(id, unindexed).exec(&Orm::on(conn)).await.map(drop)
}

/// The import that carries this dry run out, if one does.
pub async fn applying(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Import>, DbErr> {
    query("where i.applies = $1", [id.into()]).one(connection).await
}

/// The undo of this import, if there is one.
pub async fn undoing(connection: &impl ConnectionTrait, id: Uuid) -> Result<Option<Import>, DbErr> {
    query("where i.undoes = $1", [id.into()]).one(connection).await
}

/// An import of the same content for the same supplier with the same options that has not ended.
pub async fn unfinished(
    conn: &mut PgConnection,
    source: &Source,
    options: &Options,
) -> Result<Option<Import>, DbErr> {
    let rest = "
        where i.sha256 = $1 and i.proveedor_id = $2 and i.kind = $3 and i.replace_duplicates = $4
            and i.all_or_nothing = $5 and i.corrects is not distinct from $6 and i.applies is null
            -- The same bytes may be read as a workbook or as text.
            and lower(right(i.filename, 4)) = lower(right($7, 4))
            and i.sheet is not distinct from $8
            and j.state in ('pending', 'running') and j.cancel_requested_at is null
        order by i.created_at limit 1";
    let values = [
        source.sha256.as_str().into(),
        source.proveedor_id.as_str().into(),
        options.kind.into(),
        options.replace_duplicates.into(),
        options.all_or_nothing.into(),
        options.corrects.into(),
        source.filename.as_str().into(),
        options.sheet.clone().into(),
    ];
    query(rest, values).one(&Orm::on(conn)).await
}

/// A page of imports, newest first, of one supplier or of all, older than `before`.
pub async fn list(
    connection: &impl ConnectionTrait,
    proveedor_id: Option<&str>,
    before: Option<(DateTime<Utc>, Uuid)>,
    size: i64,
) -> Result<Vec<Import>, DbErr> {
    let rest = "
        where ($1::text is null or i.proveedor_id = $1)
            and ($2::timestamptz is null or (i.created_at, i.id) < ($2, $3))
        order by i.created_at desc, i.id desc limit $4";
    let (time, id) = before.unzip();
    query(rest, [proveedor_id.map(str::to_owned).into(), time.into(), id.into(), size.into()])
        .all(connection)
        .await
}

/// Sets what an import that ends came to. The sums of an undo count removed and restored products as
/// accepted; created and updated are an import's.
///
/// # Errors
/// The database; a sum above what its column holds.
pub async fn record_end(
    conn: &mut PgConnection,
    id: Uuid,
    kind: Kind,
    summary: &Summary,
    result: &ImportResult,
) -> anyhow::Result<()> {
    let of_import = |count: u64| (kind != Kind::Undo).then(|| i32::try_from(count)).transpose();
    let ended = ActiveModel {
        total: Set(Some(summary.total.try_into()?)),
        accepted: Set(Some(summary.accepted.try_into()?)),
        rejected: Set(Some(summary.rejected.try_into()?)),
        duplicates: Set(Some(summary.duplicates.try_into()?)),
        created: Set(of_import(summary.created)?),
        updated: Set(of_import(summary.updated)?),
        unchanged: Set(summary.unchanged.try_into()?),
        result: Set(Some(serde_json::to_value(result)?)),
        ..Default::default()
    };
    change(id, ended).exec(&Orm::on(conn)).await?;
    Ok(())
}

/// How many rows an import that has ended rejected. It knows after its ledger is deleted, too.
pub async fn rejected(connection: &impl ConnectionTrait, id: Uuid) -> Result<u64, DbErr> {
    let import = Entity::find_by_id(id).one(connection).await?;
    Ok(import.and_then(|import| import.rejected).map_or(0, |count| count.unsigned_abs().into()))
}

/// Notes up to which row the words of its products are written, and whether all are.
pub(super) async fn indexed(conn: &mut PgConnection, id: Uuid, row: i32, whole: bool) -> Result<(), DbErr> {
    let indexed = ActiveModel { indexed_row: Set(row), indexed: Set(whole), ..Default::default() };
    change(id, indexed).exec(&Orm::on(conn)).await.map(drop)
}

/// Notes that its file and ledger are gone.
pub(super) async fn purged(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    let purged = Entity::update_many().col_expr(Column::PurgedAt, Expr::cust("now()"));
    purged.filter(Column::Id.eq(id)).exec(&Orm::on(conn)).await.map(drop)
}
