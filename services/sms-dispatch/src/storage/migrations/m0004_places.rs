use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The last migration that changes indexes builds all of them: no other one knows what they need.
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

/// Databases from before have these without the id. And a place's state, LADA, city and municipality go together: a planner
/// that takes them for independent thinks a city of its own state nearly empty.
const UP: &str = "
drop index if exists contacts_city, contacts_state, contacts_lada;
create statistics contacts_places (dependencies) on state_code, lada, city, municipality from contacts;
";

const DOWN: &str = "
drop statistics contacts_places;
drop index contacts_city, contacts_state, contacts_lada, contacts_municipality, contacts_status;
create index contacts_city on contacts (city, status) where opt_out_at is null;
create index contacts_state on contacts (state_code, status) where opt_out_at is null;
create index contacts_lada on contacts (lada, status) where opt_out_at is null;
";
