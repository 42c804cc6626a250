-- The calls of the days that have changed, each once however many campaigns it reaches; a queue and an attempt count it
-- where it is in them.
insert into touched select distinct dia from aux_calls join affected using (archivo);
create temporary table touched_days on commit drop as select distinct dia from touched;
analyze touched_days;

create temporary table calls_of_days on commit drop as
    select l.archivo, l.canal, l.uid, l.cod_luna, l.dia, l.hora, l.nivel, l.promise, l.agent, l.attempt, l.paid_on, c.cartera
    from aux_calls l join touched_days using (dia) join aux_campaigns c using (archivo);
analyze calls_of_days;

create temporary table calls_once on commit drop as
    select dia, canal, uid, hora, nivel, promise, agent, min(paid_on) as paid_on
    from calls_of_days group by dia, canal, uid, hora, nivel, promise, agent;

delete from mart_calls where dia in (select dia from touched_days);
insert into mart_calls (dia, part, name, calls, cd, ci, promises)
select dia, 'channel', canal, count(*), count(*) filter (where nivel = 'CD'), count(*) filter (where nivel = 'CI'),
       count(*) filter (where promise)
from calls_once group by dia, canal
union all
select dia, 'hour', lpad(hora::text, 2, '0') || ':00', count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from calls_once group by dia, hora
union all
select dia, 'attempt', attempt::text, count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from calls_of_days where attempt <= 5 group by dia, attempt
union all
select dia, 'queue', cartera, count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from (select distinct dia, canal, uid, cartera, nivel, promise from calls_of_days) as queued group by dia, cartera
union all
-- Accounts that were managed on the day, and how often.
select dia, 'accounts', '', sum(n * accounts), sum(accounts), 0, 0
from (select dia, archivo, cod_luna, count(*) as n from calls_of_days group by dia, archivo, cod_luna) as reached
join (select archivo, cod_luna, count(*) as accounts from aux_accounts group by archivo, cod_luna) as a
    using (archivo, cod_luna)
group by dia;

delete from mart_agents where dia in (select dia from touched_days);
insert into mart_agents (dia, agent, paid_on, calls, contacts, promises)
select dia, agent, coalesce(paid_on, 'infinity'), count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where promise)
from calls_once where agent is not null
group by dia, agent, coalesce(paid_on, 'infinity');
