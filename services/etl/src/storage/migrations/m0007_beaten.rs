use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- Of which days the source has rows that are not in their table, as another one with their key has beaten them.
create table raw_beaten (
    stream text not null,
    -- A hash of the key.
    clave bigint not null,
    dia date not null,
    -- The moment of the last snapshot that said so.
    leido_en timestamptz not null,
    primary key (stream, clave, dia)
);
create index raw_beaten_day on raw_beaten (stream, dia);
";

const DOWN: &str = "
drop table raw_beaten;
";
