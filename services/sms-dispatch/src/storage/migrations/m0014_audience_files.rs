use super::briefly::OnlineMigration;

pub const MIGRATION: OnlineMigration = OnlineMigration {
    file: file!(),
    tables: &[UP, CAUSES],
    fills: &["alter table suppressions validate constraint suppressions_reason_known"],
    indexes: &[("campaigns_audience_file", INDEX)],
    down: DOWN,
};

const UP: &str = r#"
-- Files whose people are an audience: who uploaded them, and on what grounds their people may be written to.
create table if not exists audience_files (
    -- Its job's too.
    id uuid primary key,
    -- What its rows and campaigns carry of it.
    number integer generated always as identity unique,
    filename text not null,
    object_key text not null unique,
    mapping jsonb not null,
    -- Whose consent, since when, where it is on record; none: no campaign of marketing may use it.
    consent jsonb,
    -- What its rows hold.
    shape jsonb,
    rows bigint,
    accepted bigint,
    rejected bigint,
    loaded_at timestamptz,
    -- Since when no campaign may use it, and whether its rows are gone.
    purged_at timestamptz,
    emptied boolean not null default false,
    created_by text not null,
    created_at timestamptz not null default now(),
    check (rows = accepted + rejected),
    check ((loaded_at is null) = (rows is null) and (loaded_at is null) = (shape is null))
);
create index if not exists audience_files_recent on audience_files (created_at desc, id desc);
create index if not exists audience_files_there on audience_files (created_at) where not emptied;

-- Their people, a row each: a phone may stand in several.
create table if not exists audience_rows (
    file integer not null,
    -- The row in the file, from 1.
    id bigint not null,
    phone_e164 text collate "C" not null,
    full_name text,
    state_code text,
    lada text not null,
    city text,
    is_valid boolean not null,
    is_mobile boolean,
    -- In the order of the file's columns; empty where there is no value.
    vals text[] not null,
    primary key (file, id)
);
-- Which of a phone's rows is the first.
create index if not exists audience_rows_phone on audience_rows (phone_e164, file, id);

-- Rows that are nobody.
create table if not exists audience_rejects (
    file integer not null,
    id bigint not null,
    value text,
    reason text not null,
    primary key (file, id)
);
"#;

/// Condusef's register of users is a reason too.
const CAUSES: &str = "
alter table suppressions drop constraint if exists suppressions_reason_check,
    drop constraint if exists suppressions_reason_known,
    add constraint suppressions_reason_known check (reason in ('opt_out', 'repep', 'reus', 'manual')) not valid;
";

/// Which campaigns name a file. A plan changes in drafts only.
const INDEX: &str =
    "campaigns ((plan #>> '{audience,file_id}')) where plan #>> '{audience,file_id}' is not null";

const DOWN: &str = "
drop index campaigns_audience_file;
drop table audience_rejects, audience_rows, audience_files;
delete from suppressions where reason = 'reus';
alter table suppressions drop constraint suppressions_reason_known,
    add constraint suppressions_reason_check check (reason in ('opt_out', 'repep', 'manual'));
";
