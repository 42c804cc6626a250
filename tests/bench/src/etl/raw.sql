-- Ten weeks of collections: fourteen campaigns, accounts in one or two of them, a snapshot of debts every third day, a
-- payment an account, managements of both channels at random moments.
select setseed(0.25);

insert into raw_calendario (archivo, periodo_date, fecha_apertura, fecha_trandeuda, fecha_cierre, duracion_campana_dias_habiles,
                            huella, leido_en)
select (array['Cartera_Agencia_Temprana_', 'CF_ANN_', 'Cartera_AN_', 'Cobros_', 'temprana_fija_'])[1 + n % 5] || n, '2025-05-01',
       opens, case when n % 4 > 0 then opens - n % 3 end, case when n % 4 > 0 then opens + 10 + (n * 7) % 35 end, 20, '', now()
from (select n, date '2025-05-05' + (n * 4) % 55 as opens from generate_series(0, 13) n) as c;

insert into raw_asignaciones (cod_luna, cuenta, archivo, fecha_asignacion, creado_el, tramo_gestion, min_vto, negocio,
                              fraccionamiento, huella, leido_en)
select 'L' || n % {clients}, 'C' || n, c.archivo || '.txt', date '2025-05-05' + n % 50, timestamptz '2025-05-05 15:00Z' + n * interval '1 s',
       (array['3', '5', '30', null])[1 + n % 4], case when n % 9 > 0 then date '2025-05-01' + n % 40 end,
       case when n % 3 = 0 then 'MOVIL' else 'FIJA' end, case when n % 9 = 0 then 'SI' else 'NO' end, '', now()
from generate_series(0, {accounts} - 1) n
cross join lateral (
    select archivo from (select archivo, row_number() over (order by archivo) - 1 as number from raw_calendario) as c
    where number in (n % 14, case when n % 2 = 0 then (n / 14 + 5) % 14 end)
) as c;

insert into raw_trandeuda (cod_cuenta, nro_documento, archivo, fecha_proceso, creado_el, monto_exigible, huella, leido_en)
select 'C' || n, 'D' || n || '-' || d, 'TRAN', day, day + interval '20 hours',
       (array[0, 0.5, 0.99, 1, 99.99, 100, 500, 500.01, 1234.57])[1 + (n + d) % 9], '', now()
from generate_series(timestamp '2025-04-28', timestamp '2025-07-11', interval '3 days') day
cross join generate_series(0, {accounts} - 1) n
cross join generate_series(0, 1) d
where (n * 7 + extract(day from day)::int) % 4 > 0 and (d = 0 or n % 2 = 0);

insert into raw_pagos (nro_documento, fecha_pago, monto_cancelado, creado_el, huella, leido_en)
select 'D' || n || '-' || n % 2, date '2025-05-05' + floor(random() * 70)::int,
       (array[0.5, 1, 99.99, 200, 777.77])[1 + n % 5], timestamptz '2025-05-05 15:00Z', '', now()
from generate_series(0, {accounts} - 1) n
on conflict do nothing;

insert into raw_homologacion_voicebot (management, sub_management, compromiso, contactabilidad, pdp, huella, leido_en)
select a, b, c, (array['Contacto Efectivo', 'Contacto No Efectivo', 'No Contacto'])[1 + n % 3], case when n % 4 = 0 then 'SI' end, '', now()
from (select a, b, c, row_number() over () as n
      from unnest(array['A', 'B', 'C', '']) a, unnest(array['A', 'B', 'C', '']) b, unnest(array['A', 'B', 'C', '']) c) as codes
where n % 4 < 3;
insert into raw_homologacion_mibotair (n1, n2, n3, contactabilidad, pdp, huella, leido_en)
select management, sub_management, compromiso, contactabilidad, pdp, '', now() from raw_homologacion_voicebot;

insert into raw_voicebot_gestiones (uid, "date", document, management, sub_management, compromiso, huella, leido_en)
select 'V' || n, timestamptz '2025-05-05 05:00Z' + floor(random() * 70) * interval '1 day' + floor(random() * 86400) * interval '1 s',
       'L' || floor(random() * ({clients} + 10))::int, (array['A', 'B', 'C', '', null])[1 + n % 5], (array['A', 'B', 'C', '', null])[1 + n / 5 % 5],
       (array['A', 'B', 'C', '', null])[1 + n / 25 % 5], md5(n::text), now()
from generate_series(1, {managements} * 3 / 8) n;
insert into raw_mibotair_gestiones (uid, "date", document, n1, n2, n3, nombre_agente, correo_agente, huella, leido_en)
select 'M' || n, timestamptz '2025-05-05 05:00Z' + floor(random() * 70) * interval '1 day' + floor(random() * 86400) * interval '1 s',
       'L' || floor(random() * ({clients} + 10))::int, (array['A', 'B', 'C', '', null])[1 + n % 5], (array['A', 'B', 'C', '', null])[1 + n / 5 % 5],
       (array['A', 'B', 'C', '', null])[1 + n / 25 % 5], 'Agente ' || n % 60, 'agente' || n % 60 || '@ejemplo.pe', md5(n::text), now()
from generate_series(1, {managements} * 5 / 8) n;
insert into raw_ejecutivos (correo_name, nombre, huella, leido_en)
select 'agente' || n || '@ejemplo.pe', 'Agente ' || n, '', now() from generate_series(0, 59) n;
analyze raw_calendario, raw_asignaciones, raw_trandeuda, raw_pagos, raw_homologacion_voicebot, raw_homologacion_mibotair,
        raw_voicebot_gestiones, raw_mibotair_gestiones;
