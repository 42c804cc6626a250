use super::briefly::OnlineMigration;

pub const MIGRATION: OnlineMigration =
    OnlineMigration { file: file!(), tables: &[UP], fills: &[], indexes: &[], down: DOWN };

const UP: &str = "
-- The day and the minute of it at which each recipient is written to by its own clock, where that is asked for.
alter table campaigns add column if not exists own_date date, add column if not exists own_minute smallint;
";

const DOWN: &str = "alter table campaigns drop column own_date, drop column own_minute;";
