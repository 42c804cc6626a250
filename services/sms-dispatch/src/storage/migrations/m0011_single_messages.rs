use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- The campaign that a day's single messages are in: their texts are their only values.
alter table campaigns add column single boolean not null default false;
create unique index campaigns_of_a_day on campaigns (date) where single and state in ('running', 'paused');
-- After which a message is worthless, and not sent any more.
alter table messages add column expires_at timestamptz;
";

const DOWN: &str = "
alter table messages drop column expires_at;
drop index campaigns_of_a_day;
alter table campaigns drop column single;
";
