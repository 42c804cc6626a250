use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let conn = manager.get_connection();
        conn.execute_unprepared(UP).await?;
        conn.execute_unprepared(VIEWS).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = r#"
-- What a search for a name compares: lower case, no accents. Neither Spanish stems nor stop words, which would damage
-- names; and no extension, which a role with one schema may not create.
create function plain(value text) returns text language sql immutable parallel safe strict
    return translate(lower(value), 'áàäâãéèëêíìïîóòöôõúùüûñç', 'aaaaaeeeeiiiiooooouuuunc');

-- Each fact once: the national number and the state's name follow from these, the source's name from the import.
create table contacts (
    id bigint generated always as identity (cache 1000),
    -- +52 and ten digits, checked by the normaliser; here only what costs a load nothing.
    phone_e164 text collate "C" not null
        check (length(phone_e164) = 13 and phone_e164 >= '+522' and phone_e164 < '+53'),
    phone_original text,
    full_name text,
    address text,
    neighborhood text,
    municipality text,
    state_code text,
    lada text not null,
    city text,
    is_valid boolean not null,
    -- From the regulator's numbering plan or a provider's look-up, never guessed.
    is_mobile boolean,
    operator text,
    status text not null check (status in ('ACTIVE', 'INACTIVE', 'UNKNOWN', 'INVALID')),
    consent text not null,
    last_sent_at timestamptz,
    send_count integer not null default 0,
    -- Follows from suppressions, which outlive the contact.
    opt_out_at timestamptz,
    -- imports.number of what brought it in, and its row there.
    import integer not null,
    source_id bigint not null,
    migrated_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- Who must not be written to, by phone: it outlives contacts, imports, rollbacks and restores.
create table suppressions (
    phone_e164 text collate "C" not null,
    reason text not null check (reason in ('opt_out', 'repep', 'manual')),
    effective_at timestamptz not null,
    source text not null,
    created_by text,
    created_at timestamptz not null default now(),
    primary key (phone_e164, reason)
);
create index suppressions_effective on suppressions (effective_at);

create table imports (
    -- The id of its job, which a restore does not bring back.
    id uuid primary key,
    -- What contacts, rejects and merges carry of it.
    number integer generated always as identity unique,
    source text not null,
    kind text not null check (kind in ('sqlite', 'csv')),
    -- Where the file is: an object in S3, or a path on the machine of who runs the command line.
    object_key text,
    path text,
    fingerprint text,
    consent text not null default 'unknown',
    options jsonb not null default '{}',
    -- `fast` into an empty table without indexes, `merge` into one that has contacts, `dry_run` into none.
    mode text check (mode in ('fast', 'merge', 'dry_run')),
    imported_by text not null,
    created_at timestamptz not null default now(),
    -- Set when it completes.
    source_rows bigint,
    created bigint,
    updated bigint,
    unchanged bigint,
    merged bigint,
    rejected bigint,
    report jsonb,
    -- Seconds a step.
    timings jsonb not null default '{}',
    rolled_back_at timestamptz,
    constraint imports_sums check (
        source_rows is null or source_rows = created + updated + unchanged + merged + rejected)
);
create index imports_recent on imports (created_at desc, id desc);
create index imports_fingerprint on imports (fingerprint);

-- What is done of an import, in the transaction of the rows themselves.
create table import_batches (
    import integer not null references imports (number),
    phase text not null check (phase in ('load', 'merge')),
    batch bigint not null,
    rows bigint not null,
    created bigint not null,
    updated bigint not null,
    unchanged bigint not null,
    merged bigint not null,
    staged bigint not null,
    rejected bigint not null,
    -- Values that lost NUL bytes, bad UTF-8 or what was over their length; dates that made no sense.
    repaired bigint not null,
    -- Where the next batch begins, in sources that are read from front to back.
    position jsonb,
    primary key (import, phase, batch)
);

-- Rows whose phone another row may have too; merged by phone once all are here.
create table import_staged (
    import integer not null,
    phone_e164 text collate "C" not null,
    phone_original text,
    full_name text,
    address text,
    neighborhood text,
    municipality text,
    state_code text,
    lada text not null,
    city text,
    is_valid boolean not null,
    is_mobile boolean,
    operator text,
    source_id bigint not null,
    migrated_at timestamptz
);
create index import_staged_phone on import_staged (import, phone_e164);

-- Rows that can't become a contact.
create table contact_rejects (
    import integer not null,
    source_id bigint not null,
    value text,
    reason text not null
);
create index contact_rejects_import on contact_rejects (import, source_id);

-- Rows that went into another row's contact.
create table contact_merges (
    import integer not null,
    source_id bigint not null,
    phone_e164 text collate "C" not null,
    -- The row whose values came first.
    into_source_id bigint not null,
    primary key (import, source_id)
);

-- What contacts of earlier imports looked like before this one changed them, and after.
create table contact_changes (
    import integer not null,
    contact_id bigint not null,
    before jsonb not null,
    after jsonb not null,
    primary key (import, contact_id)
);

-- What numeros.db holds beside its numbers, as it says it.
create table source_missing_ladas (
    import integer not null,
    lada text not null,
    rows bigint,
    examples text,
    detected_at text,
    primary key (import, lada)
);
create table source_statistics (
    import integer not null,
    id bigint not null,
    processed bigint,
    valid bigint,
    duplicates bigint,
    with_city bigint,
    ladas_found bigint,
    ladas_missing bigint,
    seconds double precision,
    origin text,
    migrated_at text,
    primary key (import, id)
);

-- The regulator's plan: which numbers are mobile, and whose.
create table numbering_plan (
    first_number bigint primary key,
    last_number bigint not null check (last_number >= first_number),
    is_mobile boolean not null,
    operator text not null
);

create table contact_audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    subject text,
    details jsonb not null default '{}'
);
create index contact_audit_recent on contact_audit (at desc, id desc);
"#;

/// One pass over the contacts; the three others are made of it.
const VIEWS: &str = r"
create materialized view contact_cube as
    select state_code, lada, city, is_mobile, status, consent, opt_out_at is not null as opted_out,
           count(*) as contacts,
           count(*) filter (where last_sent_at > now() - interval '30 days') as recently_contacted,
           now() as as_of
    from contacts group by 1, 2, 3, 4, 5, 6, 7;
create unique index contact_cube_key on contact_cube
    (state_code, lada, city, is_mobile, status, consent, opted_out) nulls not distinct;

create materialized view contacts_by_state as
    select state_code, sum(contacts)::bigint as total_contacts,
           coalesce(sum(contacts) filter (where status = 'ACTIVE'), 0)::bigint as active_contacts,
           coalesce(sum(contacts) filter (where is_mobile), 0)::bigint as mobile_contacts,
           coalesce(sum(recently_contacted), 0)::bigint as recently_contacted, max(as_of) as as_of
    from contact_cube where not opted_out group by state_code;
create unique index contacts_by_state_key on contacts_by_state (state_code) nulls not distinct;

create materialized view contacts_by_lada as
    select lada, sum(contacts)::bigint as total_contacts,
           coalesce(sum(contacts) filter (where status = 'ACTIVE'), 0)::bigint as active_contacts,
           coalesce(sum(contacts) filter (where is_mobile), 0)::bigint as mobile_contacts,
           coalesce(sum(recently_contacted), 0)::bigint as recently_contacted, max(as_of) as as_of
    from contact_cube where not opted_out group by lada;
create unique index contacts_by_lada_key on contacts_by_lada (lada);

create materialized view contacts_by_city as
    select state_code, city, sum(contacts)::bigint as total_contacts,
           coalesce(sum(contacts) filter (where status = 'ACTIVE'), 0)::bigint as active_contacts,
           coalesce(sum(contacts) filter (where is_mobile), 0)::bigint as mobile_contacts,
           coalesce(sum(recently_contacted), 0)::bigint as recently_contacted, max(as_of) as as_of
    from contact_cube where not opted_out group by state_code, city;
create unique index contacts_by_city_key on contacts_by_city (state_code, city) nulls not distinct;
";

const DOWN: &str = "
drop materialized view contacts_by_city, contacts_by_lada, contacts_by_state, contact_cube;
drop table contact_audit, numbering_plan, source_missing_ladas, source_statistics, contact_changes, contact_merges, contact_rejects, import_staged,
    import_batches, imports, suppressions, contacts;
drop function plain(text);
";
