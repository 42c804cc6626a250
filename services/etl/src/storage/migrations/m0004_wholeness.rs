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
-- Which data versions count: after a restore, the same number is other data.
alter table mart_version add column epoch uuid not null default gen_random_uuid();

-- Agents by the name that they call under, as of the version that the dashboards show.
create table aux_executives (
    agent text primary key,
    nombre text,
    document text
);
insert into aux_executives (agent, nombre, document)
select distinct on (lower(trim(correo_name))) lower(trim(correo_name)), nombre, document
from raw_ejecutivos where eliminado_en is null order by lower(trim(correo_name)), correo_name;
";

const DOWN: &str = "
drop table aux_executives;
alter table mart_version drop column epoch;
";
