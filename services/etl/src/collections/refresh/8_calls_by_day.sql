-- The calls of the days that are computed again, each once however many campaigns it reaches; a queue and an attempt
-- count it where it is in them.
delete from mart_calls where dia in (select dia from call_days) or (part = 'attempt' and dia in (select dia from attempt_days));
insert into mart_calls (dia, part, name, calls, cd, ci, promises)
select dia, case grouping(voicebot) when 0 then 'channel' else 'hour' end,
       case when grouping(voicebot) > 0 then lpad(hora::text, 2, '0') || ':00' when voicebot then 'Voicebot' else 'Call Center' end,
       count(*), count(*) filter (where cd), count(*) filter (where ci), count(*) filter (where promise)
from staged group by grouping sets ((dia, voicebot), (dia, hora))
union all
select dia, 'attempt', attempt::text, count(*), count(*) filter (where cd), count(*) filter (where ci),
       count(*) filter (where promise)
from aux_attempts where dia in (select dia from attempt_days) group by dia, attempt
union all
select s.dia, 'queue', q.cartera, count(*), count(*) filter (where s.cd), count(*) filter (where s.ci),
       count(*) filter (where s.promise)
from staged s join (
    select client, cartera, range_agg(daterange(opens, least(closes, date '9999-12-30'), '[]')) as windows
    from reach group by client, cartera
-- The planner takes a bare `@>` for one row in a thousand, and would sort them all.
) as q on q.client = s.client and coalesce(q.windows @> s.dia, false)
group by s.dia, q.cartera
union all
-- Accounts that were managed on the day, and how often.
select d.dia, 'accounts', '', sum(d.calls * m.accounts), sum(m.accounts), 0, 0
from aux_member_days d join aux_members m using (member) where d.dia in (select dia from call_days) group by d.dia;

-- The first payment on or after each promise of these days. A client's promises of one day reach the same campaigns.
create temporary table paid_by_client on commit drop as
    select distinct m.client, c.opens, p.fecha_pago
    from aux_payments p join aux_members m using (archivo, cod_luna) join aux_campaigns c using (archivo);
create index on paid_by_client (client);
analyze paid_by_client;

delete from aux_promises where dia in (select dia from call_days);
create temporary table promised on commit drop as
    select dia, client, agent, count(*) as promises from staged where promise and agent is not null group by dia, client, agent;
analyze promised;
insert into aux_promises (dia, client, agent, promises, paid_on)
select q.dia, q.client, q.agent, q.promises, p.paid_on
from promised q
left join (
    select q.dia, q.client, min(p.fecha_pago) as paid_on
    from (select distinct dia, client from promised) as q
    join paid_by_client p on p.client = q.client and q.dia between p.opens and p.fecha_pago
    group by q.dia, q.client
) as p using (dia, client);

delete from mart_agents where dia in (select dia from call_days);
insert into mart_agents (dia, agent, paid_on, calls, contacts, promises)
select dia, agent, paid_on, sum(calls), sum(contacts), sum(promises)
from (
    select dia, agent, date 'infinity' as paid_on, count(*) as calls, count(*) filter (where cd) as contacts, 0::bigint as promises
    from staged where agent is not null group by dia, agent
    union all
    select dia, agent, coalesce(paid_on, 'infinity'), 0, 0, promises from aux_promises where dia in (select dia from call_days)
) as worked
group by dia, agent, paid_on;

-- Promises of other days that are kept on another day than was known, by clients whose payments have changed.
create temporary table kept_otherwise on commit drop as
    select q.dia, q.client, q.agent, q.promises, q.paid_on as before, p.paid_on as after
    from aux_promises q
    left join lateral (
        select min(p.fecha_pago) as paid_on from paid_by_client p
        where p.client = q.client and q.dia between p.opens and p.fecha_pago
    ) as p on true
    where q.client in (select client from clients_repaid) and q.dia not in (select dia from call_days)
      and q.paid_on is distinct from p.paid_on;
update aux_promises q set paid_on = k.after
from kept_otherwise k where q.dia = k.dia and q.client = k.client and q.agent = k.agent;
insert into mart_agents as m (dia, agent, paid_on, calls, contacts, promises)
select dia, agent, paid_on, 0, 0, sum(promises)
from (
    select dia, agent, coalesce(before, 'infinity') as paid_on, -promises as promises from kept_otherwise
    union all
    select dia, agent, coalesce(after, 'infinity'), promises from kept_otherwise
) as moved
group by dia, agent, paid_on
on conflict (dia, agent, paid_on) do update set promises = m.promises + excluded.promises;

do $$ begin
    if exists (select from whole) then
        analyze aux_promises;
    end if;
end $$;
