//! What can be derived is not written: a product's first lot, and a line a creation in the change log.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- Creations have no before-image: a batch of them is one row of the change log. Updates, deletions and what was
-- written before this table stand in import_changes, a row each.
create table import_creations (
    import_id uuid not null,
    first_row integer not null,
    last_row integer not null,
    -- The version that they gave their products.
    version bigint not null,
    -- How many there are of each of the two; they are alike in order, and rows rise.
    amount integer not null check (amount > 0),
    row_numbers integer[] not null,
    product_ids text[] not null,
    primary key (import_id, first_row),
    check (amount = cardinality(row_numbers) and amount = cardinality(product_ids))
);
create view import_ledger (import_id, row_number, product_id, action, version, before) as
    select import_id, row_number, product_id, action, version, before from import_changes
    union all
    select c.import_id, r.row_number, r.product_id, 'created', c.version, null
    from import_creations c, unnest(c.row_numbers, c.product_ids) as r (row_number, product_id);

-- A new product's first lot is empty, and its name and its end follow from the day of the product: only lots that
-- somebody counted are rows.
create function first_lot (made timestamptz) returns text
    language sql stable parallel safe
    return 'LOTE_INICIAL_' || to_char(made at time zone 'UTC', 'YYYYMMDD');
create function first_lot_end (made timestamptz) returns date
    language sql stable parallel safe
    return (made at time zone 'UTC')::date + 365;
delete from inventory i using products p
where p.id = i.product_id and i.bodega_id = 'PRINCIPAL' and i.pais = 'CO' and i.cantidad = 0
    and i.lote = first_lot(p.created_at) and i.fecha_vencimiento = first_lot_end(p.created_at);

-- A new product takes a sixth less time so: ids and codes are compared byte by byte, not by a language's rules;
-- lengths are part of the types; and what is left to check is one expression.
alter table products
    drop constraint products_id_check,
    drop constraint products_codigo_check,
    drop constraint products_nombre_check,
    drop constraint products_categoria_check,
    drop constraint products_presentacion_check,
    drop constraint products_precio_unitario_check,
    drop constraint products_certificado_sanitario_check,
    drop constraint products_condiciones_almacenamiento_check,
    drop constraint products_tiempo_entrega_dias_check,
    drop constraint products_stock_minimo_check,
    drop constraint products_stock_critico_check,
    alter column id type varchar(64) collate \"C\",
    alter column codigo type varchar(64) collate \"C\",
    alter column nombre type varchar(255),
    alter column categoria type varchar(64) collate \"C\",
    alter column presentacion type varchar(128),
    alter column certificado_sanitario type varchar(255),
    alter column condiciones_almacenamiento type varchar(128),
    alter column proveedor_id type text collate \"C\",
    add constraint products_check check (
        id <> '' and codigo <> '' and nombre <> '' and categoria <> '' and precio_unitario >= 0
        and tiempo_entrega_dias >= 1 and stock_minimo >= 0 and stock_critico >= 0
    );
alter table product_words alter column product_id type text collate \"C\";
alter table product_edits alter column product_id type text collate \"C\";
alter table inventory alter column product_id type text collate \"C\";
alter table import_plan
    alter column product_id type text collate \"C\",
    alter column codigo type text collate \"C\";
";

const DOWN: &str = "
alter table import_plan
    alter column product_id type text collate \"default\",
    alter column codigo type text collate \"default\";
alter table inventory alter column product_id type text collate \"default\";
alter table product_edits alter column product_id type text collate \"default\";
alter table product_words alter column product_id type text collate \"default\";
alter table products
    drop constraint products_check,
    alter column id type text collate \"default\",
    alter column codigo type text collate \"default\",
    alter column nombre type text,
    alter column categoria type text collate \"default\",
    alter column presentacion type text,
    alter column certificado_sanitario type text,
    alter column condiciones_almacenamiento type text,
    alter column proveedor_id type text collate \"default\",
    add check (length(id) between 1 and 64),
    add check (length(codigo) between 1 and 64),
    add check (length(nombre) between 1 and 255),
    add check (length(categoria) between 1 and 64),
    add check (length(presentacion) <= 128),
    add check (precio_unitario >= 0),
    add check (length(certificado_sanitario) <= 255),
    add check (length(condiciones_almacenamiento) <= 128),
    add check (tiempo_entrega_dias >= 1),
    add check (stock_minimo >= 0),
    add check (stock_critico >= 0);
insert into inventory (bodega_id, product_id, pais, lote, cantidad, fecha_vencimiento)
select 'PRINCIPAL', id, 'CO', first_lot(created_at), 0, first_lot_end(created_at) from products
on conflict do nothing;
drop function first_lot, first_lot_end;
insert into import_changes (import_id, row_number, product_id, action, version)
select import_id, row_number, product_id, action, version from import_ledger l
where action = 'created' and not exists (
    select from import_changes c where c.import_id = l.import_id and c.row_number = l.row_number);
drop view import_ledger;
drop table import_creations;
";
