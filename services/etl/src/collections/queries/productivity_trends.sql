-- Calls by day and by hour of a span, each once, and the money of each day.
with payments as (
    select distinct nro_documento, fecha_pago, monto from aux_payments where fecha_pago between $1 and $2
)
select coalesce(c.day, p.day) as day, null::smallint as hour, coalesce(calls, 0)::bigint as calls,
       coalesce(promises, 0)::bigint as promises, coalesce(money, 0) as money
from (
    select dia - $1 + 1 as day, sum(calls) as calls, sum(promises) as promises
    from mart_calls where part = 'channel' and dia between $1 and $2 group by dia
) as c
full join (select fecha_pago - $1 + 1 as day, sum(monto) as money from payments group by fecha_pago) as p
    on p.day = c.day
union all
select null, left(name, 2)::smallint, sum(calls)::bigint, sum(promises)::bigint, null
from mart_calls where part = 'hour' and dia between $1 and $2 group by name
