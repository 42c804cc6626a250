use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("drop table consent_withdrawals").await.map(drop)
    }
}

/// Whose consent a person took back, by phone: like a suppression it outlives contacts, imports, rollbacks and restores. A file
/// that claims a basis for everybody in it is no new consent.
const UP: &str = r#"
create table consent_withdrawals (
    phone_e164 text collate "C" primary key,
    withdrawn_by text not null,
    withdrawn_at timestamptz not null default now()
);
"#;
