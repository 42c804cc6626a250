use sea_orm_migration::prelude::*;

use super::briefly::briefly;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// As the ones before: nobody stands behind a lock that waits.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        briefly(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = "
-- The day and the minute of it at which each recipient is written to by its own clock, where that is asked for.
alter table campaigns add column if not exists own_date date, add column if not exists own_minute smallint;
";

const DOWN: &str = "alter table campaigns drop column own_date, drop column own_minute;";
