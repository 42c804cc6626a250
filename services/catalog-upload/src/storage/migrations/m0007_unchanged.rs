//! What an import found to be as its rows say: an undo of an older import must know that somebody still says so.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- The products of a batch whose rows changed nothing are one row. They are looked for by supplier and import, never by
-- product: an index of them would cost what it spares not to write them.
create table import_unchanged (
    import_id uuid not null,
    first_row integer not null,
    -- Above that of the products as they were found.
    version bigint not null,
    product_ids text[] not null,
    primary key (import_id, first_row)
);
";

const DOWN: &str = "
drop table import_unchanged;
";
