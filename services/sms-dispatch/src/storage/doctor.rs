//! The service's own invariants, for `doctor`. SQL by hand: they span tables, and are looked for in samples.

use sea_orm::sqlx::{self, PgPool};

use super::indexes;

/// Each query yields one row a finding, as a sentence.
const CHECKS: &[&str] = &[
    r"select format('contact %s: %s is no phone in E.164 of Mexico', id, left(phone_e164, 6) || '…')
      from contacts where phone_e164 !~ '^\+52[2-9][0-9]{9}$' limit 20",
    "select format('%s contacts have the phone %s…', count(*), left(phone_e164, 6))
     from contacts group by phone_e164 having count(*) > 1 limit 20",
    "with there as (select import, count(*) as contacts from contacts group by import)
     select format('import %s says it created %s contacts, there are %s', i.number, i.created, coalesce(t.contacts, 0))
     from imports i left join there t on t.import = i.number
     where i.source_rows is not null and i.rolled_back_at is null and i.created <> coalesce(t.contacts, 0)
     union all
     select format('%s contacts of import %s, which does not exist or was rolled back', t.contacts, t.import)
     from there t where not exists (
         select from imports i where i.number = t.import and i.rolled_back_at is null) limit 20",
    "with sums as (
         select import, sum(rows) filter (where phase = 'load') as rows, sum(created) as created, sum(updated) as updated,
                sum(unchanged) as unchanged, sum(merged) as merged, sum(rejected) as rejected
         from import_batches group by import)
     select format('import %s: %s', i.number, 'its sums are not those of its batches')
     from imports i join sums s on s.import = i.number
     where i.source_rows is not null and (i.source_rows, i.created, i.updated, i.unchanged, i.merged, i.rejected)
         is distinct from (s.rows, s.created, s.updated, s.unchanged, s.merged, s.rejected) limit 20",
    "select format('import %s says %s rejected and %s merged, the tables hold %s and %s', number, rejected, merged, r, m)
     from (select i.*, (select count(*) from contact_rejects t where t.import = i.number) as r,
                  (select count(*) from contact_merges t where t.import = i.number) as m
           from imports i where i.source_rows is not null and i.rolled_back_at is null) counted
     where (rejected, merged) is distinct from (r, m) limit 20",
    "select format('import %s says it changed %s contacts, of %s it is known what they were before', number, updated, c)
     from (select i.*, (select count(*) from contact_changes t where t.import = i.number) as c
           from imports i where i.source_rows is not null and i.rolled_back_at is null) counted
     where updated <> c limit 20",
    // Rolled back in another order than they wrote in, one import takes out what another stands on.
    "select format('import %s changed contact %s, which is gone', h.import, h.contact_id)
     from contact_changes h where not exists (select from contacts c where c.id = h.contact_id) limit 20",
    "select format('import %s has ended, and %s of its rows are still staged', i.number, count(*))
     from import_staged s join imports i on i.number = s.import where i.source_rows is not null group by i.number limit 20",
    // Outside an import's turn: whoever is loaded is marked at its end at the latest. A date that comes is applied within a
    // minute.
    "select format('contact %s is suppressed since %s and may still be written to', c.id, s.effective_at)
     from suppressions s join contacts c using (phone_e164)
     where s.effective_at < now() - interval '5 minutes' and c.opt_out_at is null and not exists (
         select from pg_locks where locktype = 'advisory' and objsubid = 1 and granted
             and database = (select oid from pg_database where datname = current_database())
             and objid = (hashtext(current_schema() || '.contact imports')::bigint & 4294967295)::oid) limit 20",
    "select format('contact %s is opted out, and no suppression of its phone is in effect', c.id)
     from contacts c where c.opt_out_at is not null and not exists (
         select from suppressions s where s.phone_e164 = c.phone_e164 and s.effective_at <= now()) limit 20",
    "select format('contact %s has the consent %s, which was taken back', c.id, c.consent)
     from consent_withdrawals w join contacts c using (phone_e164) where c.consent <> 'unknown' limit 20",
    // Nothing is known of numbers that the plan doesn't have, but what a provider said.
    "select format('contact %s has the operator %s, which is not the numbering plan''s', c.id, c.operator)
     from contacts c left join lateral (
         select * from (
             select * from numbering_plan n where n.first_number <= substr(c.phone_e164, 4)::bigint
             order by n.first_number desc limit 1) n
         where n.last_number >= substr(c.phone_e164, 4)::bigint) p on true
     where (c.operator is not null or c.is_mobile is not null)
         and (c.operator is distinct from p.operator or c.is_mobile is distinct from p.is_mobile)
         and not exists (select from phone_lookups l where l.phone_e164 = c.phone_e164) limit 20",
    // The ledger is summed up for each campaign that is not past retention.
    "with ledger as (
         select campaign, coalesce(state_code, '') as state_code, date_trunc('hour', changed_at, 'UTC') as hour, state as status,
                coalesce(code, '') as code, variant, sum(messages)::bigint as messages, sum(parts)::bigint as parts,
                sum(cost_micros)::bigint as cost, sum(repeatable)::bigint as repeatable
         from (select campaign, state_code, changed_at, state, code, variant, 1 as messages, parts, cost_micros,
                      repeatable::int as repeatable from messages
               union all
               select campaign, state_code, changed_at, status, code, variant, 0, parts, cost_micros, 0
               from earlier_attempts) a
         group by 1, 2, 3, 4, 5, 6
         having sum(messages) <> 0 or sum(parts) <> 0 or sum(cost_micros) <> 0 or sum(repeatable) <> 0),
     told as (
         select campaign, state_code, hour, status, code, variant, sum(messages)::bigint as messages, sum(parts)::bigint as parts,
                sum(cost_micros)::bigint as cost, sum(repeatable)::bigint as repeatable
         from (select campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable
               from campaign_totals
               union all
               select campaign, state_code, hour, status, code, variant, messages, parts, cost_micros, repeatable
               from campaign_deltas) b
         where exists (select from campaigns c where c.number = b.campaign
                       and to_regclass('messages_' || to_char(c.date, 'YYYYMMDD')) is not null)
         group by 1, 2, 3, 4, 5, 6
         having sum(messages) <> 0 or sum(parts) <> 0 or sum(cost_micros) <> 0 or sum(repeatable) <> 0)
     select format('campaign %s: %s messages of state %s are %s in the totals', campaign, coalesce(l.messages, 0), status,
                   coalesce(t.messages, 0))
     from ledger l full join told t using (campaign, state_code, hour, status, code, variant)
     where (l.messages, l.parts, l.cost, l.repeatable) is distinct from (t.messages, t.parts, t.cost, t.repeatable)
     limit 20",
    "with ledger as (
         select campaign, coalesce(currency, '') as currency, sum(cost_micros)::bigint as cost
         from (select campaign, currency, cost_micros from messages
               union all select campaign, currency, cost_micros from earlier_attempts) a group by 1, 2),
     told as (
         select campaign, currency, sum(cost_micros)::bigint as cost from campaign_costs b
         where exists (select from campaigns c where c.number = b.campaign
                       and to_regclass('messages_' || to_char(c.date, 'YYYYMMDD')) is not null)
         group by 1, 2)
     select format('campaign %s: its messages cost %s millionths of %L, the totals say %s', campaign, coalesce(l.cost, 0), currency,
                   coalesce(t.cost, 0))
     from ledger l full join told t using (campaign, currency) where coalesce(l.cost, 0) <> coalesce(t.cost, 0) limit 20",
    "select format('report %s of %s can not be applied: %s', id, provider, error)
     from provider_reports where failed_at is not null limit 20",
    "select format('campaign %s says it has %s recipients, the ledger has %s', c.number, c.recipients, m.rows)
     from campaigns c cross join lateral (select count(*) as rows from messages m where m.campaign = c.number) m
     where c.recipients <> m.rows and to_regclass('messages_' || to_char(c.date, 'YYYYMMDD')) is not null limit 20",
    "select format('campaign %s says it excluded %s, its reasons say %s', c.number, c.excluded, e.contacts)
     from campaigns c cross join lateral (
         select coalesce(sum(contacts), 0)::bigint as contacts from campaign_exclusions e where e.campaign = c.number) e
     where c.excluded <> e.contacts limit 20",
    "select format('campaign %s: message %s is to be sent and in a slice that is done', m.campaign, m.position)
     from messages m join slices s on s.campaign = m.campaign and m.position between s.first_position and s.last_position
     where m.state in (0, 1) and s.state = 'done' limit 20",
    "select format('campaign %s: slice %s is with the job %s, which has ended', s.campaign, s.first_position, s.job)
     from slices s where s.state = 'fed' and not exists (
         select from jobs j where j.id = s.job and j.state in ('pending', 'running')) limit 20",
    "select format('audience file %s says it has %s people and %s rejected rows, the tables hold %s and %s', number, accepted,
                   rejected, people, rejects)
     from (select f.*, (select count(*) from audience_rows r where r.file = f.number) as people,
                  (select count(*) from audience_rejects r where r.file = f.number) as rejects
           from audience_files f where f.loaded_at is not null and f.purged_at is null) counted
     where (accepted, rejected) is distinct from (people, rejects) limit 20",
    "select format('audience file %s was let go %s, and its people are still there', number, purged_at)
     from audience_files where purged_at < now() - interval '1 hour' and not emptied limit 20",
    "select format('contact %s has the operator %s, the provider said %s', c.id, c.operator, l.operator)
     from phone_lookups l join contacts c using (phone_e164) where l.operator <> c.operator limit 20",
    // People may say otherwise afterwards.
    "select format('contact %s is ACTIVE, and the provider has said since that there is no such number', c.id)
     from phone_lookups l join contacts c using (phone_e164)
     where not l.is_valid and l.refusal is null and c.status = 'ACTIVE' and c.updated_at < l.looked_up_at limit 20",
];

/// A sentence for each thing that does not hold.
pub async fn doctor(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql("set local statement_timeout = 0; set local work_mem = '256MB'")
        .execute(&mut *transaction)
        .await?;
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(sqlx::query_scalar::<_, String>(*check).fetch_all(&mut *transaction).await?);
    }
    let there = indexes::there(&mut *transaction).await?;
    let unfinished: bool = sqlx::query_scalar(
        "select exists (select from imports where mode = 'fast' and source_rows is null and rolled_back_at is null)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    // A load that goes on, or may be taken up again, has put them away.
    for index in indexes::ALL.iter().filter(|_| !unfinished) {
        if !there.iter().any(|name| name == index.name) {
            findings.push(format!("contacts has no index {}", index.name));
        }
    }
    Ok(findings)
}
