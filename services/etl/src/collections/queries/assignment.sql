-- Accounts, their clients and the debt that they came with, of the campaigns open on each of two days. Clients are
-- counted again for the total: one may be in two carteras.
with open as (
    select p.period, c.archivo, c.cartera
    from (values (1, $1::date), (2, $2::date)) as p (period, day)
    join aux_campaigns c on p.day between c.opens and c.closes and ($3::text[] is null or c.cartera = any ($3))
),
accounts as (
    select period, cartera, sum(cuentas)::bigint as cuentas, sum(deuda_asig) as saldo
    from open join mart_days using (archivo)
    where cuentas > 0
    group by grouping sets ((period), (period, cartera))
),
clients as (
    select period, cartera, count(distinct client) as clientes
    from open join mart_clients using (archivo)
    group by grouping sets ((period), (period, cartera))
)
select a.period, a.cartera, a.cuentas, c.clientes, a.saldo
from accounts a join clients c on c.period = a.period and c.cartera is not distinct from a.cartera
