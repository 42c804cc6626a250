use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

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
