//! What the product form leaves out, and what clients show of a warehouse.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
alter table products alter column tiempo_entrega_dias drop not null;
alter table bodegas add column codigo text, add column nombre text, add column ciudad text;
";

const DOWN: &str = "
alter table bodegas drop column codigo, drop column nombre, drop column ciudad;
-- The earlier version knows no product without days.
update products set tiempo_entrega_dias = 1 where tiempo_entrega_dias is null;
alter table products alter column tiempo_entrega_dias set not null;
";
