use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- What a part costs at a provider, from one day on. A sender may have a price of its own beside it.
create table sms_prices (
    id uuid primary key,
    provider text not null,
    -- The kind of sender; none: every kind that has no price of its own.
    kind text,
    valid_from date not null,
    -- The last day; none: until another begins.
    valid_until date check (valid_until >= valid_from),
    -- Millionths of `currency` a part.
    price_micros bigint not null check (price_micros >= 0),
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    created_by text not null,
    created_at timestamptz not null default now()
);
create unique index sms_prices_begin on sms_prices (provider, coalesce(kind, ''), valid_from);
";

const DOWN: &str = "drop table sms_prices;";
