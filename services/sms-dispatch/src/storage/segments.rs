//! `segments`: segments that are saved.

use chassis::db::{NoRelation as Relation, Orm, newest_first, orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set,
    ExprTrait as _, QuerySelect as _,
    entity::prelude::*,
    sqlx::{PgConnection, PgPool},
};

use crate::domain::segment::Segment;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "segments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub name: String,
    pub description: String,
    #[sea_orm(column_type = "JsonBinary")]
    pub filter: Segment,
    pub created_by: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A segment's row.
pub type SavedSegment = Model;

/// What of a segment its users decide.
#[derive(Clone, Debug)]
pub struct SegmentValues {
    pub name: String,
    pub description: String,
    pub filter: Segment,
}

/// Why a segment was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("another segment has this name")]
    NameTaken,
    #[error(transparent)]
    Database(DbErr),
}

impl From<DbErr> for WriteError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(_)) => Self::NameTaken,
            _ => Self::Database(error),
        }
    }
}

fn row(values: &SegmentValues) -> ActiveModel {
    ActiveModel {
        name: Set(values.name.clone()),
        description: Set(values.description.clone()),
        filter: Set(values.filter.clone()),
        ..Default::default()
    }
}

/// Writes a new one.
pub async fn insert(
    conn: &mut PgConnection,
    values: &SegmentValues,
    actor: &str,
) -> Result<SavedSegment, WriteError> {
    let new = ActiveModel { id: Set(Uuid::now_v7()), created_by: Set(actor.to_owned()), ..row(values) };
    Ok(Entity::insert(new).exec_with_returning(&Orm::on(conn)).await?)
}

/// Writes one again.
pub async fn update(
    conn: &mut PgConnection,
    id: Uuid,
    values: &SegmentValues,
) -> Result<SavedSegment, WriteError> {
    let written = Entity::update_many()
        .set(row(values))
        .col_expr(Column::Version, Expr::col(Column::Version).add(1))
        .col_expr(Column::UpdatedAt, Expr::current_timestamp())
        .filter(Column::Id.eq(id))
        .exec_with_returning(&Orm::on(conn))
        .await?
        .pop();
    Ok(written.ok_or_else(|| DbErr::RecordNotFound(format!("segment {id}")))?)
}

/// One of them.
pub async fn get(pool: &PgPool, id: Uuid) -> Result<Option<SavedSegment>, DbErr> {
    Entity::find_by_id(id).one(&orm(pool)).await
}

/// One of them, nobody else's to change until the transaction ends.
pub async fn lock(conn: &mut PgConnection, id: Uuid) -> Result<Option<SavedSegment>, DbErr> {
    Entity::find_by_id(id).lock_exclusive().one(&Orm::on(conn)).await
}

/// The newest, or those before one of them.
pub async fn list(
    pool: &PgPool,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<SavedSegment>, DbErr> {
    let query = newest_first(Entity::find(), (Column::CreatedAt, Column::Id), before);
    query.limit(limit.unsigned_abs()).all(&orm(pool)).await
}

/// Forgets one.
pub async fn delete(conn: &mut PgConnection, id: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(&Orm::on(conn)).await.map(drop)
}
