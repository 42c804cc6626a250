use schedules::WAITING_UP;
use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        connection.execute_unprepared(UP).await?;
        connection.execute_unprepared(WAITING_UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = "
-- What a run that has not begun waits for; and what was missing of its day when it began without.
alter table runs add column waits_for text, add column begun_without text;
-- How many rows the campaign was to have, in the snapshot that the file shows.
alter table run_files add column expected bigint;
";

const DOWN: &str = "
alter table schedules drop column waiting_since;
alter table run_files drop column expected;
alter table runs drop column waits_for, drop column begun_without;
";
