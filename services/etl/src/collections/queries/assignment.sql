-- Accounts, their clients and the debt that they came with, of the campaigns open on each of two days. Clients are
-- counted anew for the total: one may be in two carteras.
select p.period, c.cartera,
       count(*) as cuentas, count(distinct a.cod_luna) as clientes, sum(a.deuda_asig) as saldo
from (values (1, $1::date), (2, $2::date)) as p (period, day)
join aux_campaigns c on p.day between c.opens and c.closes and ($3::text[] is null or c.cartera = any ($3))
join aux_accounts a on a.archivo = c.archivo
group by grouping sets ((p.period), (p.period, c.cartera))
