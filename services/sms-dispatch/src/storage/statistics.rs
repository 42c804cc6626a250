//! `source_statistics`: the history of the making of `numeros.db`, as it says it.

use chassis::db::{NoRelation as Relation, Orm};
use sea_orm::{ActiveValue::Set, entity::prelude::*, sqlx::PgConnection};

#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "source_statistics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub import: i32,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    pub processed: Option<i64>,
    pub valid: Option<i64>,
    pub duplicates: Option<i64>,
    pub with_city: Option<i64>,
    pub ladas_found: Option<i64>,
    pub ladas_missing: Option<i64>,
    pub seconds: Option<f64>,
    pub origin: Option<String>,
    pub migrated_at: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

/// A row of `estadisticas_migracion`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    pub id: i64,
    /// processed, valid, duplicates, with a city, LADAs found, LADAs missing.
    pub counts: [Option<i64>; 6],
    pub seconds: Option<f64>,
    pub origin: Option<String>,
    pub migrated_at: Option<String>,
}

/// Writes an import's in the place of what an earlier attempt wrote.
pub async fn replace(conn: &mut PgConnection, import: i32, rows: &[Statistics]) -> Result<(), DbErr> {
    let orm = Orm::on(conn);
    Entity::delete_many().filter(Column::Import.eq(import)).exec(&orm).await?;
    for row in rows {
        let [processed, valid, duplicates, with_city, ladas_found, ladas_missing] = row.counts;
        let row = ActiveModel {
            import: Set(import),
            id: Set(row.id),
            processed: Set(processed),
            valid: Set(valid),
            duplicates: Set(duplicates),
            with_city: Set(with_city),
            ladas_found: Set(ladas_found),
            ladas_missing: Set(ladas_missing),
            seconds: Set(row.seconds),
            origin: Set(row.origin.clone()),
            migrated_at: Set(row.migrated_at.clone()),
        };
        Entity::insert(row).exec_without_returning(&orm).await?;
    }
    Ok(())
}
