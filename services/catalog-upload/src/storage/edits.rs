//! `product_edits`: what people change one by one, through the API.

use std::collections::HashSet;

use chassis::db::{NoRelation as Relation, Orm};
use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, QuerySelect as _, entity::prelude::*, sqlx::PgConnection};

use crate::domain::ProductRow;

/// What somebody did to a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Action {
    #[sea_orm(string_value = "created")]
    Created,
    #[sea_orm(string_value = "updated")]
    Updated,
    #[sea_orm(string_value = "deleted")]
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "product_edits")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub product_id: String,
    /// The version that the change gave the product, or that its deletion had.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    pub action: Action,
    /// The product's row before; none where there was none.
    #[sea_orm(column_type = "JsonBinary")]
    pub before: Option<Json>,
    /// A token's subject.
    pub actor: String,
    pub created_at: DateTime<Utc>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Notes a change, in the transaction that makes it.
pub async fn record(
    conn: &mut PgConnection,
    product_id: &str,
    version: i64,
    action: Action,
    before: Option<Json>,
    actor: &str,
) -> Result<(), DbErr> {
    let edit = ActiveModel {
        product_id: Set(product_id.to_owned()),
        version: Set(version),
        action: Set(action),
        before: Set(before),
        actor: Set(actor.to_owned()),
        ..Default::default()
    };
    Entity::insert(edit).exec_without_returning(&Orm::on(conn)).await.map(drop)
}

/// Whether somebody deleted one of the products after the version was taken, and before they were created: who reads
/// versions would take the deletion for the later of the two.
pub async fn deleted_since(
    conn: &mut PgConnection,
    version: i64,
    created: &[&ProductRow],
) -> Result<bool, DbErr> {
    if created.is_empty() {
        return Ok(false);
    }
    let deleted = Entity::find()
        .select_only()
        .column(Column::ProductId)
        .filter(Column::Version.gt(version))
        .filter(Column::Action.eq(Action::Deleted));
    let deleted: Vec<String> = deleted.into_tuple().all(&Orm::on(conn)).await?;
    let deleted: HashSet<String> = deleted.into_iter().collect();
    Ok(!deleted.is_empty() && created.iter().any(|row| deleted.contains(&row.id)))
}
