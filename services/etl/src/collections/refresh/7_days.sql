-- What changes on a day, by cut: `changes` has what accounts add; here come their managements and what they owe.
insert into changes (cut, dia, gestiones)
select a.cut, d.dia, sum(d.calls * a.accounts)
from (
    select member, dia, calls from changed_days
    union all
    select d.member, d.dia, d.calls from aux_member_days d join aux_members m using (member) join whole using (archivo)
) as d
join (
    select member, cut, count(*)::integer as accounts
    from aux_accounts join cuts using (archivo, servicio, tramo, vencimiento, rango_deuda) group by member, cut
) as a using (member)
group by a.cut, d.dia;

-- A snapshot's debts are owed from its day on, or from the campaign's first, until the next snapshot.
with owed as (
    select s.cut, n.dia, n.next, sum(d.deuda) as deuda
    from aux_debt d join aux_snapshots n using (dia) join scope s using (cuenta) join cuts c using (cut)
    where c.whole and n.dia <= c.closes and coalesce(n.next, 'infinity') > c.opens
    group by s.cut, n.dia, n.next
)
insert into changes (cut, dia, deuda_act)
select o.cut, e.dia, e.deuda
from owed o join cuts c using (cut)
cross join lateral (values (greatest(o.dia, c.opens), o.deuda), (o.next, -o.deuda)) as e (dia, deuda)
where e.dia <= c.closes;

-- What there is by now of a cut's day is a part of its sum.
delete from mart_days where archivo in (select archivo from whole);
with touched as (
    select c.*, n.dia from (select distinct cut, dia from changes) as n join cuts c using (cut) where not c.whole
),
gone as (
    delete from mart_days m using touched t
    where (m.archivo, m.dia, m.servicio, m.tramo, m.vencimiento, m.rango_deuda)
        = (t.archivo, t.dia, t.servicio, t.tramo, t.vencimiento, t.rango_deuda)
    returning t.cut, m.*
)
insert into changes
select cut, dia, cuentas, fraccionadas, gestionadas, gestiones, cd, ci, pdp, pdp_frac, pagadoras, recupero, deuda_asig, deuda_act
from gone;
-- In the order of the key.
insert into mart_days (archivo, dia, servicio, tramo, vencimiento, rango_deuda, cuentas, fraccionadas, gestionadas,
                       gestiones, cd, ci, pdp, pdp_frac, pagadoras, recupero, deuda_asig, deuda_act)
select archivo, dia, servicio, tramo, vencimiento, rango_deuda, n.cuentas, n.fraccionadas, n.gestionadas,
       n.gestiones, n.cd, n.ci, n.pdp, n.pdp_frac, n.pagadoras, n.recupero, n.deuda_asig, n.deuda_act
from (
    select cut, dia, sum(cuentas) as cuentas, sum(fraccionadas) as fraccionadas, sum(gestionadas) as gestionadas,
           sum(gestiones) as gestiones, sum(cd) as cd, sum(ci) as ci, sum(pdp) as pdp, sum(pdp_frac) as pdp_frac,
           sum(pagadoras) as pagadoras, sum(recupero) as recupero, sum(deuda_asig) as deuda_asig, sum(deuda_act) as deuda_act
    from changes group by cut, dia
) as n
join cuts using (cut)
where (n.cuentas, n.fraccionadas, n.gestionadas, n.gestiones, n.cd, n.ci, n.pdp, n.pdp_frac, n.pagadoras, n.recupero,
       n.deuda_asig, n.deuda_act) <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
order by campaign, dia, cut;

do $$ begin
    if exists (select from whole) then
        analyze mart_days;
    end if;
end $$;
