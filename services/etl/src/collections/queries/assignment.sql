-- Accounts, their clients and the debt that they came with, of the campaigns open on each of two days. Clients are
-- counted again for the total: one may be in two carteras.
with clients as (
    select p.period, c.cartera, a.cod_luna, count(*) as cuentas, sum(a.deuda_asig) as saldo
    from (values (1, $1::date), (2, $2::date)) as p (period, day)
    join aux_campaigns c on p.day between c.opens and c.closes and ($3::text[] is null or c.cartera = any ($3))
    join aux_accounts a on a.archivo = c.archivo
    group by p.period, c.cartera, a.cod_luna
),
once as (
    select period, cod_luna, sum(cuentas) as cuentas, sum(saldo) as saldo from clients group by period, cod_luna
)
select period, cartera, sum(cuentas)::bigint as cuentas, count(*) as clientes, sum(saldo) as saldo
from clients group by period, cartera
union all
select period, null, sum(cuentas)::bigint, count(*), sum(saldo) from once group by period
