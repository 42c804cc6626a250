//! How the change log of updates is kept.

use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

/// Nothing that is there is rewritten, and one table is locked for a moment.
const UP: &str = "
-- A batch of updates is some megabytes of arrays, which are made smaller while their import waits: lz4 is several times
-- quicker at it than what PostgreSQL does by default. A server that was built without it goes on as before.
do $$
declare
    arrays name;
begin
    for arrays in
        select attname from pg_attribute
        where attrelid = 'import_updates'::regclass and attnum > 0 and not attisdropped and attndims > 0
    loop
        execute format('alter table import_updates alter column %I set compression lz4', arrays);
    end loop;
exception when feature_not_supported then
    raise notice 'this server has no lz4';
end $$;
";

const DOWN: &str = "
do $$
declare
    arrays name;
begin
    for arrays in
        select attname from pg_attribute
        where attrelid = 'import_updates'::regclass and attnum > 0 and not attisdropped and attndims > 0
    loop
        execute format('alter table import_updates alter column %I set compression default', arrays);
    end loop;
end $$;
";
