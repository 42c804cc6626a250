use async_trait::async_trait;
use sea_orm_migration::prelude::{ConnectionTrait as _, DbErr, MigrationName, MigrationTrait, SchemaManager};

/// The table of this crate, for a service's `Migrator` to include before its own. The service report has it from a
/// migration of its own, with a reference to its runs.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Schedules), Box::new(Waiting)]
}

struct Schedules;

impl MigrationName for Schedules {
    fn name(&self) -> &str {
        "m20261126_000001_schedules"
    }
}

#[async_trait]
impl MigrationTrait for Schedules {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("drop table schedules").await.map(drop)
    }
}

/// That a time is waited for stands in a column of its own. Until then, the text of `last_error` told it.
struct Waiting;

impl MigrationName for Waiting {
    fn name(&self) -> &str {
        "m20261127_000001_schedules_waiting"
    }
}

#[async_trait]
impl MigrationTrait for Waiting {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(WAITING_UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let undo = "alter table schedules drop column waiting_since";
        manager.get_connection().execute_unprepared(undo).await.map(drop)
    }
}

/// The column `waiting_since`, for services that have the table from a migration of their own.
pub const WAITING_UP: &str = "
alter table schedules add column waiting_since timestamptz;
update schedules set waiting_since = next_at where last_error = 'Espera a que termine lo que empezó antes';
";

const UP: &str = "
create table schedules (
    id uuid primary key,
    cron text not null,
    zone text not null,
    missed text not null check (missed in ('saltar', 'ultima', 'todas')),
    params jsonb not null,
    active boolean not null,
    next_at timestamptz not null,
    last_at timestamptz,
    -- What it began last, or why it could not.
    last_run uuid,
    last_error text,
    created_by text not null,
    created_at timestamptz not null default now(),
    version bigint not null default 1
);
create index schedules_due on schedules (next_at) where active;
";
