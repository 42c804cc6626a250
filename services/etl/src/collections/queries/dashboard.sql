-- Each dimension's rows as of a day, and their total (dimension 0). The figures of a day are the sums up to it.
with open as (
    select * from aux_campaigns
    where $1 between opens and closes
      and ($2::text[] is null or cartera = any ($2))
      and ($7::date is null or opens >= $7) and ($8::date is null or opens <= $8)
      and ($9::date[] is null
           or exists (select from unnest($9::date[], $10::date[]) as p (first, last) where opens between p.first and p.last))
),
cells as (
    select archivo, servicio, tramo, vencimiento, rango_deuda,
           sum(cuentas) as cuentas, sum(fraccionadas) as fraccionadas, sum(gestionadas) as gestionadas,
           sum(gestiones) as gestiones, sum(m.cd) as cd, sum(m.ci) as ci, sum(pdp) as pdp, sum(pdp_frac) as pdp_frac,
           sum(pagadoras) as pagadoras, sum(recupero) as recupero, sum(deuda_asig) as deuda_asig, sum(deuda_act) as deuda_act
    from mart_days m join open using (archivo)
    where dia <= $1
      and ($3::text[] is null or servicio = any ($3))
      and ($4::text[] is null or tramo = any ($4))
      and ($5::smallint[] is null or vencimiento = any ($5))
      and ($6::text[] is null or rango_deuda = any ($6))
    group by archivo, servicio, tramo, vencimiento, rango_deuda
)
select d.dimension,
       case d.cut when 'cartera' then open.cartera when 'servicio' then c.servicio when 'tramo' then c.tramo
                  when 'vencimiento' then c.vencimiento::text when 'rangoDeuda' then c.rango_deuda
                  when 'archivo' then c.archivo else 'TODAS' end as name,
       sum(cuentas)::bigint as cuentas, sum(fraccionadas)::bigint as fraccionadas, sum(gestionadas)::bigint as gestionadas,
       sum(gestiones)::bigint as gestiones, sum(c.cd)::bigint as cd, sum(c.ci)::bigint as ci, sum(pdp)::bigint as pdp,
       sum(pdp_frac)::bigint as pdp_frac, sum(pagadoras)::bigint as pagadoras,
       sum(recupero) as recupero, sum(deuda_asig) as deuda_asig, sum(deuda_act) as deuda_act,
       min(open.fecha_asignacion) as fecha_asignacion, min(opens) as opens,
       -- A row with a campaign that is open to no end has none.
       case when count(*) = count(fecha_cierre) then max(fecha_cierre) end as fecha_cierre,
       max(dias_habiles) as dias_habiles
from cells c join open using (archivo)
cross join lateral (values (0, ''), (1, $11), (2, $12)) as d (dimension, cut)
group by 1, 2
having sum(cuentas) > 0
