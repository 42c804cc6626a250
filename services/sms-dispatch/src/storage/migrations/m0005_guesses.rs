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

/// True where no source says the state, or the city, and the LADA suggests it; else null, which takes no room in a row.
const UP: &str = "alter table contacts add column state_guessed boolean, add column city_guessed boolean";

const DOWN: &str = "alter table contacts drop column state_guessed, drop column city_guessed";
