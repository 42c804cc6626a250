use super::briefly::OnlineMigration;

pub const MIGRATION: OnlineMigration =
    OnlineMigration { file: file!(), tables: TABLES, fills: &[REPEATABLE, COSTS], indexes: &[], down: DOWN };

const TABLES: &[&str] = &[
    r#"
-- As before, but attached: `create table … partition of` would lock `messages` against everybody, behind its longest reader.
-- The check says what the partition's bounds say, so that attaching reads no row.
create or replace function ensure_message_day(day date) returns void language plpgsql as $$
declare
    name text := 'messages_' || to_char(day, 'YYYYMMDD');
begin
    if to_regclass(format('%I.%I', current_schema(), name)) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext(current_schema() || '.message days'));
    if to_regclass(format('%I.%I', current_schema(), name)) is null then
        execute format(
            'create table %I (like messages including all)
                 with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05)', name);
        execute format(
            'alter table %I add constraint %I check (date >= %L and date < %L)', name, name || '_day', day, day + 1);
        execute format('alter table messages attach partition %I for values from (%L) to (%L)', name, day, day + 1);
        execute format('alter table %I drop constraint %I', name, name || '_day');
    end if;
end $$;
"#,
    "
-- ISO 4217 of `cost_micros`. And attempts in which nothing was asked of a provider, or that it refused for a reason that has
-- nothing to do with the message.
alter table messages add column if not exists currency text, add column if not exists unasked smallint not null default 0;
",
    "
-- Of the messages counted, how many may be sent again: a dry run reads no ledger.
alter table campaign_deltas add column if not exists repeatable bigint not null default 0;
",
    "alter table campaign_totals add column if not exists repeatable bigint not null default 0;",
    "
-- What all of a campaign waits for: no provider or sender of it takes messages. And since when more than the first messages go,
-- where the plan has a ramp.
alter table campaigns add column if not exists waiting text, add column if not exists ramped_at timestamptz;
",
    "
-- A report that can't be applied is set aside, with why.
alter table provider_reports add column if not exists failed_at timestamptz, add column if not exists error text;
",
    "
-- The lowest balance since a provider was closed: above it is money again. And until when it was asked who opted out with it.
alter table sms_providers add column if not exists lowest_micros bigint,
    add column if not exists opt_outs_until timestamptz;
",
    "
-- How many messages had ended, and how many of them without arriving, at some points of a campaign's way.
create table if not exists campaign_outcomes (
    campaign integer not null references campaigns (number),
    ended bigint not null,
    failed bigint not null,
    primary key (campaign, ended)
);
",
    "
-- What campaigns cost, by currency: rows are appended with the ledger's changes, and folded into one a currency.
create table if not exists campaign_costs (
    campaign integer not null,
    currency text not null,
    cost_micros bigint not null,
    folded boolean not null default false
);
create index if not exists campaign_costs_campaign on campaign_costs (campaign);
create index if not exists campaign_costs_open on campaign_costs (campaign) where not folded;
",
    r#"
-- Who asked for help on which day, and what became of the answer: one a day, sent once or not at all.
create table if not exists help_answers (
    phone_e164 text collate "C" not null,
    day date not null,
    provider text not null,
    sender text not null,
    created_at timestamptz not null default now(),
    taken_at timestamptz,
    outcome text,
    primary key (phone_e164, day)
);
create index if not exists help_answers_open on help_answers (created_at) where taken_at is null;
"#,
    "
-- How far providers' records were asked about a campaign's messages.
create table if not exists campaign_sweeps (
    campaign integer primary key references campaigns (number),
    position integer not null default 0,
    due_at timestamptz not null default now()
);
",
];

/// What the totals lack of the ledger, in one snapshot: whoever goes on sending is in both or in neither, and a second run adds
/// nothing.
const REPEATABLE: &str = "
insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable)
select campaign, state_code, hour, status, code, variant, 0, 0, 0, sum(repeatable)::bigint
from (select campaign, coalesce(state_code, '') as state_code, date_trunc('hour', changed_at, 'UTC') as hour, state as status,
             coalesce(code, '') as code, variant, 1 as repeatable from messages where repeatable
      union all
      select campaign, state_code, hour, status, code, variant, -repeatable from campaign_totals where repeatable <> 0
      union all
      select campaign, state_code, hour, status, code, variant, -repeatable from campaign_deltas where repeatable <> 0) lacking
group by 1, 2, 3, 4, 5, 6 having sum(repeatable) <> 0;
";

/// The same of costs, whose currency nobody wrote down. Totals outlive the ledger, so it is they that are compared.
const COSTS: &str = "
insert into campaign_costs (campaign, currency, cost_micros)
select campaign, '', sum(cost_micros)::bigint
from (select campaign, cost_micros from campaign_totals
      union all select campaign, cost_micros from campaign_deltas
      union all select campaign, -cost_micros from campaign_costs) lacking
group by 1 having sum(cost_micros) <> 0;
";

const DOWN: &str = "
drop table help_answers, campaign_sweeps, campaign_costs;
alter table sms_providers drop column lowest_micros, drop column opt_outs_until;
alter table messages drop column unasked, drop column currency;
alter table provider_reports drop column failed_at, drop column error;
alter table campaigns drop column waiting, drop column ramped_at;
drop table campaign_outcomes;
alter table campaign_totals drop column repeatable;
alter table campaign_deltas drop column repeatable;
";
