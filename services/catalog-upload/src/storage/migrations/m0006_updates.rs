//! What imports of known products need: a batch of updates is one row of the change log, the ids and codes that a
//! file has used, sheets, and what a restored product is the same as.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- The updates of a batch, with what the products were before, are one row. Deletions, restorations and updates from
-- before this table stand in import_changes, a row each.
create table import_updates (
    import_id uuid not null,
    first_row integer not null,
    last_row integer not null,
    -- The version that they gave their products.
    version bigint not null,
    -- How many there are of each of what follows; all are alike in order, and rows rise.
    amount integer not null check (amount > 0),
    row_numbers integer[] not null,
    product_ids text[] not null,
    -- The products before. A version is the one whose content the product had: a restored product has that of an
    -- earlier one.
    versions bigint[] not null,
    codigo text[] not null,
    nombre text[] not null,
    categoria text[] not null,
    presentacion text[] not null,
    precio_unitario numeric[] not null,
    certificado_sanitario text[] not null,
    condiciones_almacenamiento text[] not null,
    tiempo_entrega_dias integer[] not null,
    stock_minimo integer[] not null,
    stock_critico integer[] not null,
    requiere_lote boolean[] not null,
    requiere_vencimiento boolean[] not null,
    primary key (import_id, first_row),
    check (amount = cardinality(row_numbers) and amount = cardinality(product_ids)
        and amount = cardinality(versions))
);
-- A row of it, a line a product.
create function update_lines (u import_updates)
    returns table (row_number integer, product_id text, before jsonb)
    language sql stable parallel safe as $$
    select r.row_number, r.product_id, jsonb_build_object(
        'id', r.product_id, 'version', r.version, 'codigo', r.codigo, 'nombre', r.nombre,
        'categoria', r.categoria, 'presentacion', r.presentacion, 'precio_unitario', r.precio_unitario,
        'certificado_sanitario', r.certificado_sanitario,
        'condiciones_almacenamiento', r.condiciones_almacenamiento,
        'tiempo_entrega_dias', r.tiempo_entrega_dias, 'stock_minimo', r.stock_minimo,
        'stock_critico', r.stock_critico, 'requiere_lote', r.requiere_lote,
        'requiere_vencimiento', r.requiere_vencimiento)
    from unnest(u.row_numbers, u.product_ids, u.versions, u.codigo, u.nombre, u.categoria, u.presentacion,
        u.precio_unitario, u.certificado_sanitario, u.condiciones_almacenamiento, u.tiempo_entrega_dias,
        u.stock_minimo, u.stock_critico, u.requiere_lote, u.requiere_vencimiento)
        as r (row_number, product_id, version, codigo, nombre, categoria, presentacion, precio_unitario,
            certificado_sanitario, condiciones_almacenamiento, tiempo_entrega_dias, stock_minimo, stock_critico,
            requiere_lote, requiere_vencimiento)
$$;
create or replace view import_ledger (import_id, row_number, product_id, action, version, before) as
    select import_id, row_number, product_id, action, version, before from import_changes
    union all
    select c.import_id, r.row_number, r.product_id, 'created', c.version, null
    from import_creations c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id)
    union all
    select u.import_id, r.row_number, r.product_id, 'updated', u.version, r.before
    from import_updates u, update_lines(u) r;

-- The ids and codes of the rows that a file's batches accepted, 16 bytes each, in order; until the import completes.
create table import_claims (
    import_id uuid not null,
    last_row integer not null,
    keys bytea not null,
    primary key (import_id, last_row)
);
-- They are hashes, which nothing makes smaller.
alter table import_claims alter column keys set storage external;

alter table imports
    -- Of the updated rows, those that changed nothing: they have no line in the ledger.
    add column unchanged integer not null default 0,
    -- The sheet that its sender chose.
    add column sheet text;
create index imports_corrects on imports (corrects) where corrects is not null;

-- The id that a refused row has, if it can be one: a correction of the row is told by it.
alter table import_rejections add column product_id text;

-- A product that an undo gave back has, as long as its version is restored_at, the content of restored_version.
alter table products
    add column restored_at bigint,
    add column restored_version bigint,
    -- A tenth of a page stays free, so that the few products that a week's file changes stay on their page, and no
    -- index is touched.
    set (fillfactor = 90);

-- Finds what people deleted while a batch was written.
create index product_edits_version on product_edits (version);
";

const DOWN: &str = "
drop index product_edits_version;
alter table products drop column restored_at, drop column restored_version, reset (fillfactor);
alter table import_rejections drop column product_id;
drop index imports_corrects;
alter table imports drop column unchanged, drop column sheet;
drop table import_claims;
insert into import_changes (import_id, row_number, product_id, action, version, before)
select l.import_id, l.row_number, l.product_id, l.action, l.version, l.before from import_ledger l
where action = 'updated' and not exists (
    select from import_changes c where c.import_id = l.import_id and c.row_number = l.row_number);
create or replace view import_ledger (import_id, row_number, product_id, action, version, before) as
    select import_id, row_number, product_id, action, version, before from import_changes
    union all
    select c.import_id, r.row_number, r.product_id, 'created', c.version, null
    from import_creations c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id);
drop function update_lines;
drop table import_updates;
";
