-- The calls of a day. A call is one, however many campaigns it reaches; a queue and an attempt count it where it is in
-- them.
with calls as (
    select l.canal, l.uid, l.hora, l.nivel, l.promise, l.archivo, l.attempt, c.cartera
    from aux_calls l join aux_campaigns c using (archivo)
    where l.dia = $1
),
once as (select distinct canal, uid, hora, nivel, promise from calls),
queues as (select distinct canal, uid, cartera, nivel, promise from calls)
select 'channel' as part, canal as name, count(*) as calls, count(*) filter (where nivel = 'CD') as cd,
       count(*) filter (where nivel = 'CI') as ci, count(*) filter (where promise) as promises
from once group by canal
union all
select 'hour', lpad(hora::text, 2, '0') || ':00', count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from once group by hora
union all
select 'attempt', attempt::text, count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from calls where attempt <= 5 group by attempt
union all
select 'queue', cartera, count(*), count(*) filter (where nivel = 'CD'),
       count(*) filter (where nivel = 'CI'), count(*) filter (where promise)
from queues group by cartera
union all
-- Accounts that were managed that day, and how often.
select 'accounts', '', coalesce(sum(n), 0)::bigint, count(*), 0, 0
from (
    select a.archivo, a.cuenta, sum(l.n) as n
    from (
        select l.archivo, l.cod_luna, count(*) as n from aux_calls l where l.dia = $1 group by l.archivo, l.cod_luna
    ) as l
    join aux_accounts a using (archivo, cod_luna)
    group by a.archivo, a.cuenta
) as managed
