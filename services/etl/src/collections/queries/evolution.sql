-- The same sums for every day of a span, for all campaigns together (name null) and for each value of a dimension.
with spanned as (
    select * from aux_campaigns
    where opens <= $1 and closes >= $11
      and ($2::text[] is null or cartera = any ($2))
      and ($7::date is null or opens >= $7) and ($8::date is null or opens <= $8)
      and ($9::date[] is null
           or exists (select from unnest($9::date[], $10::date[]) as p (first, last) where opens between p.first and p.last))
),
daily as (
    select archivo, opens, closes, dia,
           case $12 when 'cartera' then cartera when 'servicio' then servicio when 'tramo' then tramo
                    when 'vencimiento' then vencimiento::text when 'rangoDeuda' then rango_deuda else archivo end as name,
           sum(cuentas) as cuentas, sum(gestionadas) as gestionadas, sum(gestiones) as gestiones, sum(m.cd) as cd,
           sum(m.ci) as ci, sum(pagadoras) as pagadoras, sum(recupero) as recupero
    from mart_days m join spanned using (archivo)
    where dia <= $1
      and ($3::text[] is null or servicio = any ($3))
      and ($4::text[] is null or tramo = any ($4))
      and ($5::smallint[] is null or vencimiento = any ($5))
      and ($6::text[] is null or rango_deuda = any ($6))
    group by 1, 2, 3, 4, 5
),
standing as (
    select archivo, opens, closes, name, dia, lead(dia, 1, 'infinity') over w as until,
           sum(cuentas) over w as cuentas, sum(gestionadas) over w as gestionadas, sum(gestiones) over w as gestiones,
           sum(cd) over w as cd, sum(ci) over w as ci, sum(pagadoras) over w as pagadoras, sum(recupero) over w as recupero
    from daily window w as (partition by archivo, name order by dia)
)
select day::date - $11 + 1 as day, name,
       sum(cuentas)::bigint as cuentas, sum(gestionadas)::bigint as gestionadas, sum(gestiones)::bigint as gestiones,
       sum(cd)::bigint as cd, sum(ci)::bigint as ci, sum(pagadoras)::bigint as pagadoras, sum(recupero) as recupero
from generate_series($11::timestamp, $1::timestamp, interval '1 day') as day
join standing s on s.dia <= day::date and day::date < s.until and day::date between s.opens and s.closes
group by grouping sets ((day), (day, name))
having sum(cuentas) > 0
order by 1, 2 nulls first
