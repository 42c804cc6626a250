-- What the accounts of `scope` add to the days of their cut, by what is known of them now: `{sign}` is - for taking it out.
insert into changes
with paid_on as (
    select p.archivo, p.cuenta, p.fecha_pago, sum(p.monto) as monto
    from aux_payments p join scope using (archivo, cuenta) group by p.archivo, p.cuenta, p.fecha_pago
),
-- What is paid after a snapshot is owed no more until the next, down to nothing. A payment on a snapshot's own day is in it.
settled as (
    select p.archivo, p.cuenta, p.fecha_pago, s.dia, s.next, d.deuda,
           sum(p.monto) over (partition by p.archivo, p.cuenta, s.dia order by p.fecha_pago) as paid, p.monto
    from paid_on p
    join aux_snapshots s on s.dia < p.fecha_pago and (s.next is null or p.fecha_pago < s.next)
    join aux_debt d on d.dia = s.dia and d.cuenta = p.cuenta
),
paid (archivo, cuenta, dia, recupero, deuda_act) as (
    select archivo, cuenta, fecha_pago, monto, 0 from paid_on
    union all
    select archivo, cuenta, fecha_pago, 0, least(deuda, paid - monto) - least(deuda, paid) from settled
    union all
    select s.archivo, s.cuenta, s.next, 0, max(least(s.deuda, s.paid))
    from settled s join aux_campaigns c using (archivo)
    where s.next <= c.closes group by s.archivo, s.cuenta, s.next
),
events as (
    select s.cut, e.*
    from aux_accounts a join scope s using (archivo, cuenta) join aux_campaigns c using (archivo) join aux_members m using (member)
    cross join lateral (values
        -- An account counts from its campaign's first day.
        (c.opens, 1, a.fraccionado::int, 0, 0, 0, 0, a.fraccionado::int, 0, 0::numeric, a.deuda_asig, 0::numeric),
        (m.first_managed, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
        (m.first_cd, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
        -- CI counts until CD takes its place; where CD was first it never does.
        (case when m.first_ci < coalesce(m.first_cd, 'infinity') then m.first_ci end, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0),
        (case when m.first_ci < m.first_cd then m.first_cd end, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0),
        (m.first_promise, 0, 0, 0, 0, 0, 1, (not a.fraccionado)::int, 0, 0, 0, 0),
        (a.first_paid, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0)
    ) as e (dia, cuentas, fraccionadas, gestionadas, cd, ci, pdp, pdp_frac, pagadoras, recupero, deuda_asig, deuda_act)
    where e.dia is not null
    union all
    select s.cut, p.dia, 0, 0, 0, 0, 0, 0, 0, 0, p.recupero, 0, p.deuda_act
    from paid p join scope s using (archivo, cuenta)
)
select cut, dia, {sign}sum(cuentas), {sign}sum(fraccionadas), {sign}sum(gestionadas), 0, {sign}sum(cd), {sign}sum(ci),
       {sign}sum(pdp), {sign}sum(pdp_frac), {sign}sum(pagadoras), {sign}sum(recupero), {sign}sum(deuda_asig), {sign}sum(deuda_act)
from events group by cut, dia;
