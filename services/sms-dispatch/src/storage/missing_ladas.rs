//! `source_missing_ladas`: the LADAs that the makers of `numeros.db` did not know, as it says it.

use chassis::db::{NoRelation as Relation, Orm};
use sea_orm::{ActiveValue::Set, entity::prelude::*, sqlx::PgConnection};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "source_missing_ladas")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub import: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub lada: String,
    pub rows: Option<i64>,
    pub examples: Option<String>,
    pub detected_at: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A row of `ladas_faltantes`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MissingLada {
    pub lada: String,
    pub rows: Option<i64>,
    pub examples: Option<String>,
    pub detected_at: Option<String>,
}

/// Writes an import's in the place of what an earlier attempt wrote.
pub async fn replace(conn: &mut PgConnection, import: i32, rows: &[MissingLada]) -> Result<(), DbErr> {
    let orm = Orm::on(conn);
    Entity::delete_many().filter(Column::Import.eq(import)).exec(&orm).await?;
    for row in rows {
        let row = ActiveModel {
            import: Set(import),
            lada: Set(row.lada.clone()),
            rows: Set(row.rows),
            examples: Set(row.examples.clone()),
            detected_at: Set(row.detected_at.clone()),
        };
        Entity::insert(row).exec_without_returning(&orm).await?;
    }
    Ok(())
}
