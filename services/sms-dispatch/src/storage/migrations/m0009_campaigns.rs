use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = r#"
-- Who carries messages, and whether it takes them now.
create table sms_providers (
    name text primary key,
    -- Parts a second that the account may send.
    per_second double precision not null check (per_second > 0),
    -- Closed since then, and why: out of credit, a wrong key. Rows wait; nothing is asked of it.
    closed_at timestamptz,
    closed_reason text,
    -- When it opens by itself; none: when a person opens it.
    opens_at timestamptz,
    check ((closed_at is null) = (closed_reason is null)),
    updated_at timestamptz not null default now()
);

-- In whose name messages go out.
create table sms_senders (
    address text primary key,
    provider text not null references sms_providers (name),
    kind text not null,
    per_second double precision not null check (per_second > 0),
    -- What a part costs, in millionths of `currency`; none where nobody said.
    price_micros bigint check (price_micros >= 0),
    currency text check (currency ~ '^[A-Z]{3}$'),
    check ((price_micros is null) = (currency is null)),
    enabled boolean not null default true,
    created_by text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table campaigns (
    id uuid primary key,
    -- What the ledger and the ids of messages carry of it.
    number integer generated always as identity unique,
    name text not null,
    description text not null default '',
    kind text not null check (kind in ('marketing', 'cobranza', 'transactional')),
    state text not null default 'draft' check (state in
        ('draft', 'scheduled', 'preparing', 'running', 'paused', 'completed', 'cancelled', 'failed')),
    -- What its users decide: template, audience, senders, zone, limits. Frozen by the start.
    plan jsonb not null,
    -- What the start has frozen beside it: the audience's filter, senders with their prices.
    frozen jsonb,
    -- The start's day in its zone, and the partition of its messages.
    date date,
    -- The job that writes the ledger.
    preparation uuid,
    -- matched = recipients + excluded.
    matched bigint not null default 0,
    recipients bigint not null default 0,
    excluded bigint not null default 0,
    -- Why it is paused or failed, for people.
    reason text,
    created_by text not null,
    edited_by text not null,
    approved_by text,
    approved_at timestamptz,
    start_at timestamptz,
    expires_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (state in ('draft', 'scheduled', 'cancelled', 'failed') or (date is not null and frozen is not null)),
    check (matched = recipients + excluded)
);
create index campaigns_recent on campaigns (created_at desc, id desc);
create index campaigns_live on campaigns (number) where finished_at is null and state <> 'draft';

-- Who fell out of an audience, by the first reason that holds.
create table campaign_exclusions (
    campaign integer not null references campaigns (number),
    reason text not null,
    contacts bigint not null,
    primary key (campaign, reason)
);

-- The ledger: a row a recipient, a partition a campaign day. No index names a column that sending changes, so that every
-- change of a row stays in its page.
create table messages (
    campaign integer not null,
    position integer not null,
    date date not null,
    phone_e164 text collate "C" not null,
    contact_id bigint,
    state_code text,
    lada text not null,
    -- Of single messages their position, else 0: two of them may go to one phone.
    single integer not null default 0,
    -- The template's values, in the order of its names; the text is made of them and never stored.
    vars text[] not null,
    variant smallint not null,
    -- From here on sending changes it.
    state smallint not null default 0,
    attempt smallint not null default 0,
    version integer not null default 1,
    -- When it came into this state.
    changed_at timestamptz not null default now(),
    -- Until when a request of this attempt may be under way.
    deadline timestamptz,
    sender text,
    parts smallint not null default 0,
    cost_micros bigint not null default 0,
    -- The provider's id: a UUID, or the 32 hexadecimal digits of an SID.
    provider_id uuid,
    sent_at timestamptz,
    -- The provider's code, or ours; and why, for people.
    code text,
    reason text,
    -- Of one that failed: whether sending it once more can make sense.
    repeatable boolean not null default false,
    primary key (campaign, position, date)
) partition by range (date);
create unique index messages_phone on messages (phone_e164, campaign, single, date);

-- Makes the partition of a day, unless it is there.
create function ensure_message_day(day date) returns void language plpgsql as $$
declare
    name text := 'messages_' || to_char(day, 'YYYYMMDD');
begin
    if to_regclass(format('%I.%I', current_schema(), name)) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext(current_schema() || '.message days'));
    if to_regclass(format('%I.%I', current_schema(), name)) is null then
        execute format(
            'create table %I partition of messages for values from (%L) to (%L)
                 with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05)', name, day, day + 1);
    end if;
end $$;

-- Ranges of positions that are fed to workers, all of one time zone.
create table slices (
    campaign integer not null references campaigns (number),
    first_position integer not null,
    last_position integer not null check (last_position >= first_position),
    -- The clocks that its recipients live by.
    zone smallint not null,
    state text not null default 'waiting' check (state in ('waiting', 'fed', 'done')),
    -- Not fed before, and why it waits.
    due_at timestamptz not null default now(),
    reason text,
    -- The job that holds it, and how many messages that may send.
    job uuid,
    granted integer not null default 0,
    check ((state = 'fed') = (job is not null)),
    primary key (campaign, first_position)
) with (fillfactor = 80);
create index slices_open on slices (campaign, zone, first_position) where state <> 'done';

-- What was sent to a phone, whatever became of its contact. Contacts have eleven indexes; this has one.
create table phone_sends (
    phone_e164 text collate "C" primary key,
    sends integer not null default 0,
    last_sent_at timestamptz,
    sender text,
    -- The last campaign of marketing that took this phone's turn, when, and what stood here before it.
    marketing_campaign integer,
    marketing_at timestamptz,
    marketing_before timestamptz
) with (fillfactor = 70);

-- Changes of the totals, appended in the transaction that changes the ledger, and folded by one.
create table campaign_deltas (
    id bigint generated always as identity,
    campaign integer not null,
    state_code text not null,
    hour timestamptz not null,
    status smallint not null,
    code text not null,
    variant smallint not null,
    messages bigint not null,
    parts bigint not null,
    cost_micros bigint not null
);
create index campaign_deltas_campaign on campaign_deltas (campaign);
create table campaign_totals (
    campaign integer not null,
    state_code text not null,
    hour timestamptz not null,
    status smallint not null,
    code text not null,
    variant smallint not null,
    messages bigint not null,
    parts bigint not null,
    cost_micros bigint not null,
    primary key (campaign, state_code, hour, status, code, variant)
) with (fillfactor = 70);

-- What providers told us of messages, kept as it was signed before they are answered, and applied in batches.
create table provider_reports (
    id bigint generated always as identity primary key,
    provider text not null,
    -- The address that it was sent to, where the signature covers that.
    url text not null,
    body text not null,
    received_at timestamptz not null default now()
);

-- What people wrote to us: once by the provider's id.
create table inbound_messages (
    provider text not null,
    provider_id text not null,
    phone_e164 text collate "C" not null,
    sender text not null,
    text text not null,
    received_at timestamptz not null default now(),
    handled_at timestamptz,
    -- opt_out, help or reply; and of a reply the last campaign that its phone had a message of.
    meaning text,
    campaign integer,
    primary key (provider, provider_id)
);
create index inbound_messages_open on inbound_messages (received_at) where handled_at is null;
create index inbound_messages_campaign on inbound_messages (campaign, received_at desc) where campaign is not null;
create index inbound_messages_phone on inbound_messages (phone_e164, received_at desc);
"#;

const DOWN: &str = "
drop table inbound_messages, provider_reports, campaign_totals, campaign_deltas, phone_sends, slices, messages,
    campaign_exclusions, campaigns, sms_senders, sms_providers;
drop function ensure_message_day;
";
