use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

/// True where no source says the state, or the city, and the LADA suggests it; else null, which takes no room in a row.
const UP: &str = "alter table contacts add column state_guessed boolean, add column city_guessed boolean";

const DOWN: &str = "alter table contacts drop column state_guessed, drop column city_guessed";
