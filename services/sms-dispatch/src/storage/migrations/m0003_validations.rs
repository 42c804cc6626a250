use chassis::SqlMigration;

pub const MIGRATION: SqlMigration =
    SqlMigration { file: file!(), up: UP, down: "drop table phone_lookups, validations" };

const UP: &str = "
create table validations (
    -- The id of its job.
    id uuid primary key,
    filter jsonb not null,
    -- Look-ups it may ask for; each is billed.
    budget bigint not null check (budget > 0),
    -- Those that were billed, or may have been; written before they are asked for.
    spent bigint not null default 0 check (spent between 0 and budget),
    -- Phones that were looked up since then are not looked up again.
    fresh_since timestamptz not null,
    created_by text not null,
    created_at timestamptz not null default now()
);
create index validations_recent on validations (created_at desc, id desc);

-- What a provider said of a phone. It was paid for: it outlives contacts, imports and restores.
create table phone_lookups (
    phone_e164 text collate \"C\" primary key,
    provider text not null,
    -- In the provider's words.
    line_type text,
    operator text,
    is_mobile boolean,
    is_valid boolean,
    -- Why the provider had no answer.
    refusal text,
    validation uuid not null,
    looked_up_at timestamptz not null default now()
);
";
