use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

/// Among the attempts of all imports, which take turns: the first and the last one of this import. Its number says when it was
/// asked for, not when it wrote. Null where an import has not begun, or ended before there were turns: then its number stands
/// for both.
const UP: &str = "alter table imports add column first_turn bigint, add column last_turn bigint";

const DOWN: &str = "alter table imports drop column first_turn, drop column last_turn";
