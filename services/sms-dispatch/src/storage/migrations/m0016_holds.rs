use super::briefly::OnlineMigration;

pub const MIGRATION: OnlineMigration = OnlineMigration {
    file: file!(),
    tables: TABLES,
    fills: &[],
    indexes: &[("provider_reports_waiting", "provider_reports (id) where failed_at is null")],
    down: DOWN,
};

const TABLES: &[&str] = &[
    "
-- Until when nothing is asked in its name: its provider said that there was too much.
alter table sms_senders add column if not exists held_until timestamptz;
",
    "
-- Whether it was unknown when it was noted: such are asked about first. And how often it was asked about: each time it waits longer.
alter table unheard_messages add column if not exists unknown boolean not null default false,
    add column if not exists times smallint not null default 0;
",
    "
-- Rows come and go: whoever takes the oldest would walk over all that are dead. Vacuumed by their number, however many were set
-- aside.
alter table provider_reports set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
",
];

const DOWN: &str = "
drop index provider_reports_waiting;
alter table provider_reports reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
alter table unheard_messages drop column unknown, drop column times;
alter table sms_senders drop column held_until;
";
