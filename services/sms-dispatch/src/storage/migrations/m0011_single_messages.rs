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
-- The campaign that a day's single messages are in: their texts are their only values.
alter table campaigns add column single boolean not null default false;
create unique index campaigns_of_a_day on campaigns (date) where single and state in ('running', 'paused');
-- After which a message is worthless, and not sent any more.
alter table messages add column expires_at timestamptz;
";

const DOWN: &str = "
alter table messages drop column expires_at;
drop index campaigns_of_a_day;
alter table campaigns drop column single;
";
