//! Indexes for the stock of a product, of a page of products, and for the products of a country.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// What is made concurrently is made outside of a transaction.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One statement a call: several are a transaction. An attempt that was broken off leaves an index that is
        // not valid.
        self.down(manager).await?;
        for make in [
            "create index concurrently inventory_product on inventory (product_id) include (cantidad, fecha_vencimiento)",
            "create index concurrently inventory_pais on inventory (pais, product_id)",
        ] {
            manager.get_connection().execute_unprepared(make).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for index in ["inventory_product", "inventory_pais"] {
            let drop_it = format!("drop index concurrently if exists {index}");
            manager.get_connection().execute_unprepared(&drop_it).await?;
        }
        Ok(())
    }
}
