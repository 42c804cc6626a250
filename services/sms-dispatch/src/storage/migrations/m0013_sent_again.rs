use super::briefly::OnlineMigration;

pub const MIGRATION: OnlineMigration =
    OnlineMigration { file: file!(), tables: TABLES, fills: &[], indexes: INDEXES, down: DOWN };

const TABLES: &[&str] = &[
    "
-- Attempts that a person had repeated, as they ended and with what they cost: their messages go on with the next one.
create table if not exists earlier_attempts (
    campaign integer not null,
    position integer not null,
    attempt smallint not null,
    state_code text,
    changed_at timestamptz not null,
    status smallint not null,
    code text,
    variant smallint not null,
    parts smallint not null,
    cost_micros bigint not null,
    currency text,
    sender text,
    primary key (campaign, position, attempt)
);
",
    "
-- Messages that nothing more was heard of for a while, to be asked about at their providers: so that who asks reads no ledger.
create table if not exists unheard_messages (
    campaign integer not null,
    position integer not null,
    -- Since when nothing was heard, or when it was last asked about.
    last_at timestamptz not null,
    asked boolean not null default false,
    primary key (campaign, position)
);
create index if not exists unheard_messages_last on unheard_messages (last_at);
",
    "
-- What the next message costs for which a campaign's budget has no room. And until when nothing of it is given to workers, as
-- none of its senders has a place for another request.
alter table campaigns add column if not exists budget_needs_micros bigint, add column if not exists held_until timestamptz;
",
    "
-- Since when it takes messages again. How many requests more had no answer than had one, lately: at eight it is closed, and
-- opened for one request at a time, which has until then to be answered.
alter table sms_providers add column if not exists opened_at timestamptz,
    add column if not exists silent integer not null default 0, add column if not exists probe_until timestamptz;
",
    "
-- When it was last given to a job, and when its messages were last looked through for those that nothing was heard of.
alter table slices add column if not exists fed_at timestamptz, add column if not exists swept_at timestamptz;
",
];

const INDEXES: &[(&str, &str)] = &[
    (
        "slices_unswept",
        "slices (campaign, fed_at) where swept_at is null and (fed_at is not null or state = 'done')",
    ),
    // These serve retention.
    ("inbound_messages_received", "inbound_messages (received_at)"),
    ("help_answers_day", "help_answers (day)"),
    ("provider_reports_failed", "provider_reports (failed_at) where failed_at is not null"),
    ("jobs_finished", "jobs (kind, finished_at) where finished_at is not null"),
    ("campaigns_date", "campaigns (date) where date is not null"),
];

const DOWN: &str = "
drop table earlier_attempts, unheard_messages;
alter table campaigns drop column budget_needs_micros, drop column held_until;
alter table sms_providers drop column opened_at, drop column silent, drop column probe_until;
drop index slices_unswept;
alter table slices drop column fed_at, drop column swept_at;
drop index inbound_messages_received, help_answers_day, provider_reports_failed, jobs_finished, campaigns_date;
";
