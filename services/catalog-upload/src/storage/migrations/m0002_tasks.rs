//! Dry runs, corrections and undo; a change log with before-images; warnings, inventory, annotated workbooks.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- One number a writing transaction, for all products: a version names one state of one product for ever, also
-- where the product was deleted and made again under its id.
create sequence product_versions;
select setval('product_versions', (select coalesce(max(version), 1) from products));
alter table products
    alter column version set default nextval('product_versions'),
    -- The import that wrote it last; null after a change by a person.
    add column import_id uuid;

-- The words that searches look at, written after the products of an import.
drop index products_words;
alter table products drop column words;
create table product_words (
    product_id text primary key,
    version bigint not null,
    words tsvector not null
);
create index product_words_words on product_words using gin (words);
insert into product_words (product_id, version, words)
select id, version,
    to_tsvector('simple', translate(lower(nombre || ' ' || codigo || ' ' || id), 'áéíóúüñ', 'aeiouun'))
from products;

alter table imports
    add column kind text not null default 'import' check (kind in ('import', 'dry_run', 'undo')),
    -- All rows or none.
    add column all_or_nothing boolean not null default false,
    -- The dry run that this one carries out; the import whose rejected rows alone are read; the import that is
    -- taken back.
    add column applies uuid references imports (id) on delete set null,
    add column corrects uuid references imports (id) on delete set null,
    add column undoes uuid references imports (id) on delete set null,
    -- What its status shows once it has ended.
    add column result jsonb,
    -- Up to which row of its file the words of its products are written, and whether all are.
    add column indexed_row integer not null default 0,
    add column indexed boolean not null default false,
    -- When its file and its ledger were deleted, as retention says.
    add column purged_at timestamptz,
    drop constraint imports_object_key_key;
update imports i set result = j.result, indexed = true from jobs j where j.id = i.id;
create index imports_unindexed on imports (created_at) where not indexed;
-- A dry run is carried out once, an import taken back once.
create unique index imports_applies on imports (applies) where applies is not null;
create unique index imports_undoes on imports (undoes) where undoes is not null;
create index imports_object_key on imports (object_key);
-- Finds a file that is sent again.
create index imports_content on imports (sha256, proveedor_id);
create index imports_unpurged on imports (created_at) where purged_at is null;

-- The ledgers get a row a row of a file: a foreign key would cost a look-up each. What writes them holds the
-- import's job, and `doctor` looks for strays.
alter table import_rejections drop constraint import_rejections_import_id_fkey;
alter table import_changes
    drop constraint import_changes_import_id_fkey,
    drop constraint import_changes_action_check,
    drop constraint import_changes_pkey,
    -- The version that the change gave the product (of a deletion: that the deletion had).
    add column version bigint,
    -- The product before the change, as JSON; null where there was none.
    add column before jsonb;
-- Apart from the drop, so that it takes the old one's name.
alter table import_changes
    add primary key (import_id, row_number),
    add constraint import_changes_action_check
        check (action in ('created', 'updated', 'deleted', 'restored'));

create table import_warnings (
    import_id uuid not null,
    row_number integer not null,
    code text not null,
    \"column\" text not null,
    value text not null,
    message text not null
);
create index import_warnings_rows on import_warnings (import_id, row_number);

-- What a dry run would do, and the first pass of an import that is all or nothing.
create table import_plan (
    import_id uuid not null,
    row_number integer not null,
    product_id text not null,
    -- The product's code after the row.
    codigo text not null,
    action text not null check (action in ('created', 'updated')),
    -- The columns that an update changes.
    fields text[],
    primary key (import_id, product_id)
);
create index import_plan_codes on import_plan (import_id, codigo);
create index import_plan_rows on import_plan (import_id, row_number);

-- What people change one by one, through the API.
create table product_edits (
    product_id text not null,
    version bigint not null,
    action text not null check (action in ('created', 'updated', 'deleted')),
    before jsonb,
    actor text not null,
    created_at timestamptz not null default now(),
    primary key (product_id, version)
);

create table bodegas (
    id text primary key
);
insert into bodegas (id) values ('PRINCIPAL');

-- Rows go with their product; no foreign key, as above. The one index serves a warehouse by its beginning, and a
-- product over the few warehouses there are.
create table inventory (
    bodega_id text not null,
    product_id text not null,
    pais text not null,
    lote text not null,
    cantidad bigint not null check (cantidad >= 0),
    fecha_vencimiento date not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (bodega_id, product_id, pais, lote)
);
insert into inventory (bodega_id, product_id, pais, lote, cantidad, fecha_vencimiento)
select 'PRINCIPAL', id, 'CO', 'LOTE_INICIAL_' || to_char(created_at at time zone 'UTC', 'YYYYMMDD'), 0,
    (created_at at time zone 'UTC')::date + 365
from products;

create table import_reports (
    import_id uuid primary key references imports (id) on delete cascade,
    -- The job that makes it.
    job_id uuid not null unique references jobs (id),
    object_key text,
    size_bytes bigint
);
";

const DOWN: &str = "
drop table import_reports;
drop table product_words;
alter table products drop column import_id;
alter table products add column words tsvector not null generated always as (
    to_tsvector('simple', translate(lower(nombre || ' ' || codigo || ' ' || id), 'áéíóúüñ', 'aeiouun'))
) stored;
create index products_words on products using gin (words);
drop table inventory;
drop table bodegas;
drop table product_edits;
drop table import_plan;
drop table import_warnings;
-- The earlier version knows no dry runs and no undos, and a file has one import there.
create temporary table leaving on commit drop as select id from imports where kind <> 'import';
delete from import_changes where import_id in (select id from leaving);
delete from import_rejections where import_id in (select id from leaving);
delete from imports where id in (select id from leaving);
delete from jobs where id in (select id from leaving) or kind = 'catalog.reports';
alter table import_changes
    drop constraint import_changes_action_check,
    drop constraint import_changes_pkey,
    drop column version,
    drop column before;
alter table import_changes
    add primary key (import_id, product_id),
    add constraint import_changes_import_id_fkey foreign key (import_id) references imports (id),
    add constraint import_changes_action_check check (action in ('created', 'updated'));
alter table import_rejections
    add constraint import_rejections_import_id_fkey foreign key (import_id) references imports (id);
drop index imports_content, imports_object_key, imports_unpurged;
alter table imports
    drop column kind, drop column all_or_nothing, drop column applies, drop column corrects, drop column undoes,
    drop column result, drop column purged_at, drop column indexed_row, drop column indexed,
    add constraint imports_object_key_key unique (object_key);
alter table products alter column version set default 1;
drop sequence product_versions;
";
