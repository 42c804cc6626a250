//! `raw_streams`: where each stream of BigQuery's is. Everything before the watermark is in its raw table, as the source had
//! it at `read_at`.

use chassis::db::{NoRelation as Relation, Orm};
use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, QuerySelect as _, entity::prelude::*, sea_query::OnConflict, sqlx::PgConnection,
};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "raw_streams")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub stream: String,
    pub watermark: Option<DateTime<Utc>>,
    /// The moment of the snapshot that was read last.
    pub read_at: Option<DateTime<Utc>>,
    /// The run that read it.
    pub run: Option<Uuid>,
}

impl ActiveModelBehavior for ActiveModel {}

/// All that were ever read.
pub async fn all(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find().all(connection).await
}

/// Up to where a stream is whole.
pub async fn watermark(
    connection: &impl ConnectionTrait,
    stream: &str,
) -> Result<Option<DateTime<Utc>>, DbErr> {
    let watermark = Entity::find_by_id(stream).select_only().column(Column::Watermark);
    Ok(watermark.into_tuple::<Option<DateTime<Utc>>>().one(connection).await?.flatten())
}

/// Forgets where a stream is: its next run begins at the beginning. Its rows stay.
pub async fn reset(conn: &mut PgConnection, stream: &str) -> Result<(), DbErr> {
    let unread = ActiveModel { watermark: Set(None), ..Default::default() };
    Entity::update_many().set(unread).filter(Column::Stream.eq(stream)).exec(&Orm::on(conn)).await.map(drop)
}

/// Notes up to where a run has read a stream. A watermark never goes back.
pub async fn advance(
    conn: &mut PgConnection,
    stream: &str,
    watermark: DateTime<Utc>,
    read_at: DateTime<Utc>,
    run: Uuid,
) -> Result<(), DbErr> {
    let read = ActiveModel {
        stream: Set(stream.to_owned()),
        watermark: Set(Some(watermark)),
        read_at: Set(Some(read_at)),
        run: Set(Some(run)),
    };
    let replace = OnConflict::column(Column::Stream)
        .update_columns([Column::ReadAt, Column::Run])
        .value(Column::Watermark, Expr::cust("greatest(raw_streams.watermark, excluded.watermark)"))
        .to_owned();
    Entity::insert(read).on_conflict(replace).exec_without_returning(&Orm::on(conn)).await.map(drop)
}
