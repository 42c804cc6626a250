//! `seeded_schedules`: the schedules that an installation was given once.

use chassis::db::{NoRelation as Relation, Orm};
use sea_orm::{ActiveValue::Set, TryInsertResult, entity::prelude::*, sqlx::PgConnection};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "seeded_schedules")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
}

impl ActiveModelBehavior for ActiveModel {}

/// Notes that a schedule is given. False: it was given before.
pub async fn record(conn: &mut PgConnection, id: Uuid) -> Result<bool, DbErr> {
    let done = Entity::insert(ActiveModel { id: Set(id) })
        .on_conflict_do_nothing_on([Column::Id])
        .exec_without_returning(&Orm::on(conn))
        .await?;
    Ok(matches!(done, TryInsertResult::Inserted(1)))
}
