-- One in a hundred more: what a day brings.
select setseed(0.5);
insert into raw_voicebot_gestiones (uid, "date", document, management, sub_management, compromiso, huella, leido_en)
select 'VN' || n, timestamptz '2025-07-13 13:00Z' + n % 28800 * interval '1 s', 'L' || floor(random() * {clients})::int,
       (array['A', 'B', 'C', '', null])[1 + n % 5], (array['A', 'B', 'C', '', null])[1 + n / 5 % 5],
       (array['A', 'B', 'C', '', null])[1 + n / 25 % 5], md5(n::text), now()
from generate_series(1, {managements} * 3 / 800) n;
insert into raw_mibotair_gestiones (uid, "date", document, n1, n2, n3, nombre_agente, correo_agente, huella, leido_en)
select 'MN' || n, timestamptz '2025-07-13 13:00Z' + n % 28800 * interval '1 s', 'L' || floor(random() * {clients})::int,
       (array['A', 'B', 'C', '', null])[1 + n % 5], (array['A', 'B', 'C', '', null])[1 + n / 5 % 5],
       (array['A', 'B', 'C', '', null])[1 + n / 25 % 5], 'Agente ' || n % 60, 'agente' || n % 60 || '@ejemplo.pe', md5(n::text), now()
from generate_series(1, {managements} * 5 / 800) n;
insert into raw_pagos (nro_documento, fecha_pago, monto_cancelado, creado_el, huella, leido_en)
select 'D' || n * 100 || '-0', '2025-07-13', 33.33, now(), '', now() from generate_series(1, {accounts} / 100) n
on conflict do nothing;
