//! `loads`: how far the command `load` has come with its files.

use chassis::db::{NoRelation as Relation, Orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::{NotSet, Set},
    entity::prelude::*,
    sea_query::OnConflict,
    sqlx::PgConnection,
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "loads")]
pub struct Model {
    /// SHA-256 of the file's beginning, its size and kind.
    #[sea_orm(primary_key, auto_increment = false)]
    pub fingerprint: String,
    pub filename: String,
    pub position_bytes: i64,
    pub rows: i64,
    pub finished: bool,
    pub updated_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// How far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Bytes of the file whose rows are in the tables.
    pub bytes: i64,
    /// Those rows.
    pub rows: i64,
    /// Whether that is all of it.
    pub finished: bool,
}

/// How far this file is.
pub async fn position(connection: &impl ConnectionTrait, fingerprint: &str) -> Result<Position, DbErr> {
    let found = Entity::find_by_id(fingerprint).one(connection).await?;
    Ok(found.map_or_else(Position::default, |load| Position {
        bytes: load.position_bytes,
        rows: load.rows,
        finished: load.finished,
    }))
}

/// Notes it, in the transaction of the rows.
pub async fn advance(
    conn: &mut PgConnection,
    fingerprint: &str,
    filename: &str,
    position: Position,
) -> Result<(), DbErr> {
    let load = ActiveModel {
        fingerprint: Set(fingerprint.to_owned()),
        filename: Set(filename.to_owned()),
        position_bytes: Set(position.bytes),
        rows: Set(position.rows),
        finished: Set(position.finished),
        updated_at: NotSet,
    };
    let replace = OnConflict::column(Column::Fingerprint)
        .update_columns([Column::Filename, Column::PositionBytes, Column::Rows, Column::Finished])
        .value(Column::UpdatedAt, Expr::current_timestamp())
        .to_owned();
    Entity::insert(load).on_conflict(replace).exec_without_returning(&Orm::on(conn)).await.map(drop)
}
