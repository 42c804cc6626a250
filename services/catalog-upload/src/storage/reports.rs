//! `import_reports`: annotated workbooks, one an import, made by a job when somebody asks for it. SQL by hand to read one
//! with its job, whose table is of another crate.

use chassis::db::{NoRelation as Relation, Orm, columns, sql};
use jobs::State;
use sea_orm::{
    ActiveValue::Set, FromQueryResult, SelectModel, SelectorRaw, TryInsertResult, entity::prelude::*,
    sqlx::PgConnection,
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "import_reports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: Uuid,
    /// The job that makes it.
    pub job_id: Uuid,
    /// Where it is in S3, once it is made, as its size.
    pub object_key: Option<String>,
    pub size_bytes: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}

/// An annotated workbook, made or on its way, with its job.
#[derive(Clone, Debug, FromQueryResult)]
pub struct Report {
    pub import_id: Uuid,
    /// The job that makes it.
    pub job_id: Uuid,
    /// Where it is in S3, once it is made.
    pub object_key: Option<String>,
    /// The job's state and error.
    pub state: State,
    pub error: Option<String>,
}

fn query(condition: &str, id: Uuid) -> SelectorRaw<SelectModel<Report>> {
    let text = format!(
        "select {columns}, j.state, j.error from import_reports r join jobs j on j.id = r.job_id where {condition}",
        columns = columns::<Entity>("r")
    );
    Report::find_by_statement(sql(text, [id.into()]))
}

/// The report of an import.
pub async fn of_import(connection: &impl ConnectionTrait, import: Uuid) -> Result<Option<Report>, DbErr> {
    query("r.import_id = $1", import).one(connection).await
}

/// The report that a job makes.
pub async fn of_job(connection: &impl ConnectionTrait, job: Uuid) -> Result<Option<Report>, DbErr> {
    query("r.job_id = $1", job).one(connection).await
}

/// Writes the row of a report that a new job makes. False: there is one already.
pub async fn create(conn: &mut PgConnection, import: Uuid, job: Uuid) -> Result<bool, DbErr> {
    let report = ActiveModel { import_id: Set(import), job_id: Set(job), ..Default::default() };
    let done = Entity::insert(report)
        .on_conflict_do_nothing_on([Column::ImportId])
        .exec_without_returning(&Orm::on(conn))
        .await?;
    Ok(matches!(done, TryInsertResult::Inserted(1)))
}

/// Forgets a report that could not be made, so that it can be asked for again.
pub async fn forget(connection: &impl ConnectionTrait, job: Uuid) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::JobId.eq(job)).exec(connection).await.map(drop)
}

/// Forgets the report of an import whose rows go on. Its workbook goes with the objects that no row names.
pub async fn forget_of(conn: &mut PgConnection, import: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(import).exec(&Orm::on(conn)).await.map(drop)
}

/// Notes where the report is, in the transaction that ends its job.
pub async fn record_object(
    conn: &mut PgConnection,
    job: Uuid,
    object_key: &str,
    size_bytes: u64,
) -> Result<(), DbErr> {
    let made = ActiveModel {
        object_key: Set(Some(object_key.to_owned())),
        size_bytes: Set(Some(i64::try_from(size_bytes).unwrap_or(i64::MAX))),
        ..Default::default()
    };
    Entity::update_many().set(made).filter(Column::JobId.eq(job)).exec(&Orm::on(conn)).await.map(drop)
}
