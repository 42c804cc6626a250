-- What an account owes changes on: its campaign's first day, the days of its snapshots and the snapshots after them,
-- the days of its payments and the first snapshots after those. Between two of these days nothing can change.
create temporary table paid_by_account on commit drop as
    select archivo, cuenta, fecha_pago, sum(monto) as monto from aux_payments join affected using (archivo)
    group by archivo, cuenta, fecha_pago;
create index on paid_by_account (archivo, cuenta, fecha_pago);
analyze paid_by_account;

create temporary table snapshot_of on commit drop as
    select day::date as day, (select max(dia) from aux_snapshots where dia <= day::date) as dia
    from generate_series(
        (select min(opens) from aux_campaigns join affected using (archivo)),
        greatest((select max(dia) from aux_snapshots), (select max(fecha_pago) from paid_by_account),
                 (select max(opens) from aux_campaigns join affected using (archivo))),
        interval '1 day') as day;
create index on snapshot_of (day);
analyze snapshot_of;

create temporary table owed on commit drop as
    with mine as (
        select a.archivo, a.cuenta, c.opens, c.closes from aux_accounts a
        join affected using (archivo) join aux_campaigns c using (archivo)
    ),
    days as (
        select archivo, cuenta, opens as dia from mine
        union
        select m.archivo, m.cuenta, e.dia
        from mine m join aux_debt d using (cuenta) join aux_snapshots s using (dia)
        cross join lateral (values (d.dia), (s.next)) as e (dia)
        where e.dia > m.opens and e.dia <= m.closes
        union
        select p.archivo, p.cuenta, p.fecha_pago from aux_payments p join affected using (archivo)
        union
        select p.archivo, p.cuenta, s.dia
        from aux_payments p join affected using (archivo) join aux_campaigns c using (archivo)
        cross join lateral (select dia from aux_snapshots where dia >= p.fecha_pago order by dia limit 1) as s
        where s.dia <= c.closes
    )
    select archivo, cuenta, dia, owes - lag(owes, 1, 0) over (partition by archivo, cuenta order by dia) as change
    from (
        select y.archivo, y.cuenta, y.dia,
               greatest(0, coalesce(d.deuda, 0) - coalesce((
                   select sum(p.monto) from paid_by_account p
                   where p.archivo = y.archivo and p.cuenta = y.cuenta and p.fecha_pago > s.dia and p.fecha_pago <= y.dia
               ), 0)) as owes
        from days y
        left join snapshot_of s on s.day = y.dia
        left join aux_debt d on d.cuenta = y.cuenta and d.dia = s.dia
    ) as standing;

delete from mart_days where archivo in (select archivo from affected);
insert into mart_days (archivo, dia, servicio, tramo, vencimiento, rango_deuda, cuentas, fraccionadas, gestionadas, gestiones,
                       cd, ci, pdp, pdp_frac, pagadoras, recupero, deuda_asig, deuda_act)
with mine as (
    select a.*, c.opens from aux_accounts a join affected using (archivo) join aux_campaigns c using (archivo)
),
changes (archivo, cuenta, dia, cuentas, fraccionadas, gestionadas, gestiones, cd, ci, pdp, pdp_frac, pagadoras, recupero,
         deuda_asig, deuda_act) as (
    select archivo, cuenta, opens, 1, fraccionado::int, 0, 0, 0, 0, 0, fraccionado::int, 0, 0, deuda_asig, 0 from mine
    union all
    select archivo, cuenta, first_managed, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 from mine where first_managed is not null
    union all
    select archivo, cuenta, first_cd, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0 from mine where first_cd is not null
    union all
    -- CI counts until CD takes its place; where CD was first it never does.
    select archivo, cuenta, first_ci, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0 from mine
    where first_ci < coalesce(first_cd, 'infinity')
    union all
    select archivo, cuenta, first_cd, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0 from mine where first_ci < first_cd
    union all
    select archivo, cuenta, first_promise, 0, 0, 0, 0, 0, 0, 1, (not fraccionado)::int, 0, 0, 0, 0 from mine
    where first_promise is not null
    union all
    select archivo, cuenta, first_paid, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0 from mine where first_paid is not null
    union all
    select m.archivo, m.cuenta, l.dia, 0, 0, 0, l.calls, 0, 0, 0, 0, 0, 0, 0, 0
    from mine m join (
        select archivo, cod_luna, dia, count(*) as calls from aux_calls join affected using (archivo)
        group by archivo, cod_luna, dia
    ) as l using (archivo, cod_luna)
    union all
    select archivo, cuenta, fecha_pago, 0, 0, 0, 0, 0, 0, 0, 0, 0, monto, 0, 0 from aux_payments join affected using (archivo)
    union all
    select archivo, cuenta, dia, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, change from owed where change <> 0
)
select archivo, d.dia, m.servicio, m.tramo, m.vencimiento, m.rango_deuda,
       sum(d.cuentas), sum(d.fraccionadas), sum(d.gestionadas), sum(d.gestiones), sum(d.cd), sum(d.ci), sum(d.pdp), sum(d.pdp_frac),
       sum(d.pagadoras), sum(d.recupero), sum(d.deuda_asig), sum(d.deuda_act)
from changes d join mine m using (archivo, cuenta)
group by archivo, d.dia, m.servicio, m.tramo, m.vencimiento, m.rango_deuda;
analyze mart_days;
