-- What has changed since the last refresh, and what it bears on: campaigns that are computed again whole (their accounts,
-- their window or a rule has changed, or what is owed in them), and days whose calls or payments are.
create temporary table changed on commit drop as
    with taken as (delete from raw_changes returning source, archivo, dia)
    select distinct source, archivo, dia from taken;

create temporary table campaigns_before on commit drop as select archivo, opens, closes from aux_campaigns;

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
    select dia from changed where source = 'raw_trandeuda'
    -- `all`: everything, whatever has changed.
    union select fecha_proceso from raw_trandeuda where exists (select from changed where source = 'all')
    union select dia from aux_debt where exists (select from changed where source = 'all');
analyze changed_snapshots;

create temporary table whole on commit drop as
    -- What went out of the calendar has rows to lose.
    select archivo || '.txt' as archivo from changed where source = 'raw_calendario'
    union select archivo from changed where source = 'raw_asignaciones'
    union
    select archivo from aux_campaigns
    where exists (select from changed
                  where source in ('raw_homologacion_voicebot', 'raw_homologacion_mibotair', 'all'))
    union
    -- A snapshot holds from its day on, until the next; it names the accounts of documents for all payments.
    select c.archivo from aux_campaigns c join changed_snapshots s
        on s.dia <= c.closes or s.dia = c.fecha_trandeuda;
-- Payments that a changed snapshot gives to other accounts, in campaigns that were over by then.
create temporary table others on commit drop as
    select archivo, opens, closes from aux_campaigns where archivo not in (select archivo from whole);
insert into whole
select distinct c.archivo
from changed_snapshots s
join raw_trandeuda t on t.fecha_proceso = s.dia
join raw_pagos p on p.nro_documento = t.nro_documento
join others c on p.fecha_pago between c.opens and c.closes and c.closes < s.dia
where exists (select from others join changed_snapshots on closes < dia);
alter table whole add primary key (archivo);
analyze whole;

-- The days of whole campaigns, as they were and as they are, up to the last on which anything has happened, or today.
create temporary table whole_days on commit drop as
    select distinct day::date as dia
    from (select * from campaigns_before union select archivo, opens, closes from aux_campaigns) as c
    join whole using (archivo)
    cross join (
        select least(
            coalesce(greatest((select (max("date") at time zone 'America/Lima')::date from raw_voicebot_gestiones),
                              (select (max("date") at time zone 'America/Lima')::date from raw_mibotair_gestiones),
                              (select max(fecha_pago) from raw_pagos), (select max(dia) from aux_member_days),
                              (select max(fecha_pago) from aux_payments)), date '1970-01-01'),
            (now() at time zone 'America/Lima')::date) as dia
    ) as last
    cross join lateral generate_series(c.opens::timestamp, least(c.closes, last.dia)::timestamp, interval '1 day') as day
    -- Days to come, of which there are a few: a year that somebody mistyped must not be all days until then.
    union
    select dia
    from (
        select fecha_pago as dia from raw_pagos where fecha_pago > (now() at time zone 'America/Lima')::date
        union select fecha_pago from aux_payments where fecha_pago > (now() at time zone 'America/Lima')::date
        union select (max("date") at time zone 'America/Lima')::date from raw_voicebot_gestiones having max("date") > now()
        union select (max("date") at time zone 'America/Lima')::date from raw_mibotair_gestiones having max("date") > now()
    ) as later
    where exists (select from whole);

-- Days whose calls are computed again, and those whose payments are.
create temporary table call_days on commit drop as
    select dia from whole_days
    union select dia from changed where source in ('raw_voicebot_gestiones', 'raw_mibotair_gestiones');
alter table call_days add primary key (dia);
analyze call_days;
create temporary table pay_days on commit drop as
    select dia from whole_days union select dia from changed where source = 'raw_pagos';
alter table pay_days add primary key (dia);
analyze pay_days;

create temporary table affected on commit drop as
    select archivo from whole
    union select archivo from aux_campaigns c join call_days d on d.dia between c.opens and c.closes
    union select archivo from aux_campaigns c join pay_days d on d.dia between c.opens and c.closes;
