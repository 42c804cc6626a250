-- Payments that are valid, in the campaigns whose window holds them. A document's account is that of its last row.
create temporary table paid on commit drop as
    select * from (
        select p.nro_documento, p.fecha_pago, p.monto_cancelado as monto, o.cod_cuenta as cuenta,
               count(*) over (partition by o.cod_cuenta, p.nro_documento, p.fecha_pago) as of_the_day
        from raw_pagos p
        join (
            select d.nro_documento, t.cod_cuenta
            from (select distinct nro_documento from raw_pagos where eliminado_en is null) as d
            cross join lateral (
                select cod_cuenta from raw_trandeuda t
                where t.nro_documento = d.nro_documento and t.eliminado_en is null
                order by fecha_proceso desc, creado_el desc, cod_cuenta limit 1
            ) as t
        ) as o using (nro_documento)
        where p.eliminado_en is null and p.monto_cancelado > 0 and coalesce(trim(p.motivo_rechazo), '') = ''
    ) as counted
    -- More than three a day of one document are a mistake of the source's.
    where of_the_day <= 3;
analyze paid;

-- The last direct contact of each day, which holds until the next day that has one.
create temporary table contacts_before on commit drop as
    select *, lead(dia, 1, 'infinity') over (partition by archivo, cod_luna order by dia) as until
    from (
        select distinct on (archivo, cod_luna, dia) archivo, cod_luna, dia, canal, uid, at, hora, agent
        from aux_calls join affected using (archivo)
        where nivel = 'CD'
        order by archivo, cod_luna, dia, at desc, canal, uid
    ) as last_of_day;
create index on contacts_before (archivo, cod_luna);
analyze contacts_before;

delete from aux_payments where archivo in (select archivo from affected);
insert into aux_payments (archivo, nro_documento, fecha_pago, monto, cuenta, cod_luna,
                          call_canal, call_uid, call_at, call_dia, call_hora, call_agent)
select a.archivo, p.nro_documento, p.fecha_pago, p.monto, a.cuenta, a.cod_luna,
       l.canal, l.uid, l.at, l.dia, l.hora, l.agent
from paid p
join assigned a using (cuenta)
join aux_campaigns c on c.archivo = a.archivo and p.fecha_pago between c.opens and c.closes
left join contacts_before l
    on l.archivo = a.archivo and l.cod_luna = a.cod_luna and p.fecha_pago >= l.dia and p.fecha_pago < l.until;

update aux_calls l set paid_on = p.fecha_pago
from (
    select l.archivo, l.canal, l.uid, min(p.fecha_pago) as fecha_pago
    from aux_calls l join aux_payments p using (archivo, cod_luna)
    where l.promise and p.fecha_pago >= l.dia and l.archivo in (select archivo from affected)
    group by l.archivo, l.canal, l.uid
) as p
where l.archivo = p.archivo and l.canal = p.canal and l.uid = p.uid;
analyze aux_payments;
