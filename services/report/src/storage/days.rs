//! `campaigns_per_day`: how many campaigns each day has. A trigger writes it.

use chassis::db::NoRelation as Relation;
use chrono::NaiveDate;
use sea_orm::{QueryOrder as _, QuerySelect as _, entity::prelude::*};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "campaigns_per_day")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub fecha: NaiveDate,
    pub total: i64,
}

impl ActiveModelBehavior for ActiveModel {}

/// The days that have campaigns, newest first.
pub async fn list(connection: &impl ConnectionTrait) -> Result<Vec<NaiveDate>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::Fecha)
        .filter(Column::Total.gt(0))
        .order_by_desc(Column::Fecha)
        .into_tuple()
        .all(connection)
        .await
}

/// How many campaigns a day has, or all days.
pub async fn campaigns(connection: &impl ConnectionTrait, fecha: Option<NaiveDate>) -> Result<i64, DbErr> {
    let mut query = Entity::find().select_only().expr(Expr::cust("coalesce(sum(total), 0)::bigint"));
    if let Some(fecha) = fecha {
        query = query.filter(Column::Fecha.eq(fecha));
    }
    Ok(query.into_tuple().one(connection).await?.unwrap_or(0))
}
