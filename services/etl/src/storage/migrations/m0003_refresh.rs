use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = include_str!("m0003_refresh.sql");

const DOWN: &str = "
alter table raw_quarantine drop column leido_en;
drop table raw_days, aux_promises, aux_attempts, aux_contacts, aux_member_days, aux_members;
alter table aux_debt drop constraint aux_debt_pkey;
alter table aux_debt add primary key (cuenta, dia);
create index on aux_debt (dia);
alter table aux_accounts
    drop column member, add column first_managed date, add column first_ci date, add column first_cd date,
    add column first_promise date;
create table aux_calls (
    archivo text not null, canal text not null, uid text not null, cod_luna text not null, dia date not null,
    hora smallint not null, at timestamptz not null, nivel text not null, promise boolean not null, agent text,
    attempt integer not null, paid_on date, primary key (archivo, canal, uid)
);
create index on aux_calls (dia);
insert into raw_changes (source) values ('raw_ejecutivos');
";
