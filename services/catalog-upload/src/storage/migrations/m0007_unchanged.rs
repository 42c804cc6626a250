//! What an import found to be as its rows say: an undo of an older import must know that somebody still says so.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = "
-- The products of a batch whose rows changed nothing are one row. They are looked for by supplier and import, never by
-- product: an index of them would cost what it spares not to write them.
create table import_unchanged (
    import_id uuid not null,
    first_row integer not null,
    -- Above that of the products as they were found.
    version bigint not null,
    product_ids text[] not null,
    primary key (import_id, first_row)
);
";

const DOWN: &str = "
drop table import_unchanged;
";
