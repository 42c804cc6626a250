-- What changes on a day, by cut: `changes` has what accounts add; here come their managements and what they owe.
insert into changes (archivo, dia, servicio, tramo, vencimiento, rango_deuda, gestiones)
select a.archivo, d.dia, a.servicio, a.tramo, a.vencimiento, a.rango_deuda, sum(d.calls * a.accounts)
from (
    select member, dia, calls from changed_days
    union all
    select d.member, d.dia, d.calls from aux_member_days d join aux_members m using (member) join whole using (archivo)
) as d
join (
    select member, archivo, servicio, tramo, vencimiento, rango_deuda, count(*) as accounts from aux_accounts
    group by member, archivo, servicio, tramo, vencimiento, rango_deuda
) as a using (member)
group by a.archivo, d.dia, a.servicio, a.tramo, a.vencimiento, a.rango_deuda;

-- A snapshot's debts are owed from its day on, or from the campaign's first, until the next snapshot.
with owed as (
    select a.archivo, d.dia, a.servicio, a.tramo, a.vencimiento, a.rango_deuda, sum(d.deuda) as deuda
    from aux_accounts a join whole using (archivo) join aux_debt d using (cuenta)
    group by a.archivo, d.dia, a.servicio, a.tramo, a.vencimiento, a.rango_deuda
)
insert into changes (archivo, dia, servicio, tramo, vencimiento, rango_deuda, deuda_act)
select o.archivo, e.dia, o.servicio, o.tramo, o.vencimiento, o.rango_deuda, sum(e.deuda)
from owed o join aux_campaigns c using (archivo) join aux_snapshots s using (dia)
cross join lateral (values (greatest(s.dia, c.opens), o.deuda), (s.next, -o.deuda)) as e (dia, deuda)
where s.dia <= c.closes and coalesce(s.next, 'infinity') > c.opens and e.dia <= c.closes
group by o.archivo, e.dia, o.servicio, o.tramo, o.vencimiento, o.rango_deuda;

delete from mart_days where archivo in (select archivo from whole);
insert into mart_days as m (archivo, dia, servicio, tramo, vencimiento, rango_deuda, cuentas, fraccionadas, gestionadas,
                            gestiones, cd, ci, pdp, pdp_frac, pagadoras, recupero, deuda_asig, deuda_act)
select archivo, dia, servicio, tramo, vencimiento, rango_deuda,
       coalesce(sum(cuentas), 0), coalesce(sum(fraccionadas), 0), coalesce(sum(gestionadas), 0), coalesce(sum(gestiones), 0),
       coalesce(sum(cd), 0), coalesce(sum(ci), 0), coalesce(sum(pdp), 0), coalesce(sum(pdp_frac), 0),
       coalesce(sum(pagadoras), 0), coalesce(sum(recupero), 0), coalesce(sum(deuda_asig), 0), coalesce(sum(deuda_act), 0)
from changes group by archivo, dia, servicio, tramo, vencimiento, rango_deuda
having (coalesce(sum(cuentas), 0), coalesce(sum(fraccionadas), 0), coalesce(sum(gestionadas), 0), coalesce(sum(gestiones), 0),
        coalesce(sum(cd), 0), coalesce(sum(ci), 0), coalesce(sum(pdp), 0), coalesce(sum(pdp_frac), 0),
        coalesce(sum(pagadoras), 0), coalesce(sum(recupero), 0), coalesce(sum(deuda_asig), 0), coalesce(sum(deuda_act), 0))
       <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
on conflict (archivo, dia, servicio, tramo, vencimiento, rango_deuda) do update
set cuentas = m.cuentas + excluded.cuentas, fraccionadas = m.fraccionadas + excluded.fraccionadas,
    gestionadas = m.gestionadas + excluded.gestionadas, gestiones = m.gestiones + excluded.gestiones,
    cd = m.cd + excluded.cd, ci = m.ci + excluded.ci, pdp = m.pdp + excluded.pdp, pdp_frac = m.pdp_frac + excluded.pdp_frac,
    pagadoras = m.pagadoras + excluded.pagadoras, recupero = m.recupero + excluded.recupero,
    deuda_asig = m.deuda_asig + excluded.deuda_asig, deuda_act = m.deuda_act + excluded.deuda_act;
analyze mart_days;
