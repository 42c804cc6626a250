-- The campaigns that what has changed since the last refresh bears on. All of them where a rule has changed, or where
-- the marts are empty.
create temporary table changed on commit drop as
    with taken as (delete from raw_changes returning source, archivo, dia)
    select distinct source, archivo, dia from taken;

delete from aux_campaigns;
insert into aux_campaigns (archivo, cartera, opens, closes, fecha_cierre, fecha_trandeuda, dias_habiles)
select archivo || '.txt',
       -- In this order: TEMPRANA has an AN in it.
       case when upper(archivo) like '%TEMPRANA%' then 'TEMPRANA'
            when upper(archivo) like '%CF\_ANN%' then 'CUOTA_FRACCIONAMIENTO'
            when upper(archivo) like '%AN%' then 'ALTAS_NUEVAS'
            else 'OTRAS' end,
       fecha_apertura, coalesce(fecha_cierre, 'infinity'), fecha_cierre, fecha_trandeuda, duracion_campana_dias_habiles
from (
    -- A file that is in the calendar twice is the later period's.
    select distinct on (archivo) * from raw_calendario where eliminado_en is null
    order by archivo, periodo_date desc
) as calendar;

-- Everything of an account's debt hangs on a day's snapshot as a whole: who is absent from it owes nothing.
create temporary table changed_snapshots on commit drop as
    select distinct dia from changed where source = 'raw_trandeuda';

create temporary table affected on commit drop as
    -- What went out of the calendar has rows to lose.
    select archivo || '.txt' as archivo from changed where source = 'raw_calendario'
    union select archivo from changed where source = 'raw_asignaciones'
    union
    select archivo from aux_campaigns
    where exists (select from changed
                  where source in ('raw_homologacion_voicebot', 'raw_homologacion_mibotair', 'raw_ejecutivos'))
    union
    -- A snapshot holds from its day on, until the next; it names the accounts of documents for all payments.
    select c.archivo from aux_campaigns c join changed_snapshots s
        on s.dia <= c.closes or s.dia = c.fecha_trandeuda
    union
    -- Payments that a changed snapshot gives to other accounts, in campaigns that were over by then.
    select c.archivo
    from changed_snapshots s
    join raw_trandeuda t on t.fecha_proceso = s.dia
    join raw_pagos p on p.nro_documento = t.nro_documento
    join aux_campaigns c on p.fecha_pago between c.opens and c.closes and c.closes < s.dia
    union
    select c.archivo from aux_campaigns c join changed d on d.dia between c.opens and c.closes
    where d.source in ('raw_pagos', 'raw_voicebot_gestiones', 'raw_mibotair_gestiones');
alter table affected add primary key (archivo);
analyze affected;
