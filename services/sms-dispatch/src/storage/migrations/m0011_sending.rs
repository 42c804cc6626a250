use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

const UP: &str = r#"
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

-- Of the messages counted, how many may be sent again: a dry run reads no ledger.
alter table campaign_deltas add column repeatable bigint not null default 0;
alter table campaign_totals add column repeatable bigint not null default 0;
insert into campaign_deltas (campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable)
    select campaign, coalesce(state_code, ''), date_trunc('hour', changed_at, 'UTC'), state, coalesce(code, ''), variant, 0, 0, 0,
           count(*)
    from messages where repeatable group by 1, 2, 3, 4, 5, 6;

-- What all of a campaign waits for: no provider or sender of it takes messages.
alter table campaigns add column waiting text;

-- A report that can't be applied is set aside, with why.
alter table provider_reports add column failed_at timestamptz, add column error text;

-- ISO 4217 of `cost_micros`.
alter table messages add column currency text;
-- Attempts in which nothing was asked of a provider, or that it refused for a reason that has nothing to do with the message.
alter table messages add column unasked smallint not null default 0;

-- What campaigns cost, by currency: rows are appended with the ledger's changes, and folded into one a currency.
create table campaign_costs (
    campaign integer not null,
    currency text not null,
    cost_micros bigint not null,
    folded boolean not null default false
);
create index campaign_costs_campaign on campaign_costs (campaign);
create index campaign_costs_open on campaign_costs (campaign) where not folded;
insert into campaign_costs (campaign, currency, cost_micros)
    select campaign, '', sum(cost_micros)::bigint
    from (select campaign, cost_micros from campaign_totals union all select campaign, cost_micros from campaign_deltas) both_of_them
    group by 1 having sum(cost_micros) <> 0;
"#;

const DOWN: &str = r#"
drop table campaign_costs;
alter table messages drop column unasked, drop column currency;
alter table provider_reports drop column failed_at, drop column error;
alter table campaigns drop column waiting;
alter table campaign_totals drop column repeatable;
alter table campaign_deltas drop column repeatable;
"#;
