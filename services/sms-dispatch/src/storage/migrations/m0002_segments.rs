use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: "drop table segments" };

const UP: &str = "
create table segments (
    id uuid primary key,
    name text not null unique,
    description text not null default '',
    filter jsonb not null,
    created_by text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index segments_recent on segments (created_at desc, id desc);
";
