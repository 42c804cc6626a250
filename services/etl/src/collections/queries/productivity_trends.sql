-- Calls by day and by hour of a span, each once, and the money of each day.
with once as (
    select distinct canal, uid, dia, hora, promise from aux_calls where dia between $1 and $2
),
payments as (
    select distinct nro_documento, fecha_pago, monto from aux_payments where fecha_pago between $1 and $2
)
select coalesce(c.day, p.day) as day, null::smallint as hour, coalesce(calls, 0) as calls,
       coalesce(promises, 0) as promises, coalesce(money, 0) as money
from (
    select dia - $1 + 1 as day, count(*) as calls, count(*) filter (where promise) as promises from once group by dia
) as c
full join (select fecha_pago - $1 + 1 as day, sum(monto) as money from payments group by fecha_pago) as p
    on p.day = c.day
union all
select null, hora, count(*), count(*) filter (where promise), null from once group by hora
