-- Payments of the days that are computed again, as they will be. A document's account is that of its last row.
create temporary table paid on commit drop as
    select * from (
        select p.nro_documento, p.fecha_pago, p.monto_cancelado as monto, o.cod_cuenta as cuenta,
               count(*) over (partition by o.cod_cuenta, p.nro_documento, p.fecha_pago) as of_the_day
        from raw_pagos p
        join (
            select d.nro_documento, t.cod_cuenta
            from (select distinct nro_documento from raw_pagos
                  where eliminado_en is null and fecha_pago in (select dia from pay_days)) as d
            cross join lateral (
                select cod_cuenta from raw_trandeuda t
                where t.nro_documento = d.nro_documento and t.eliminado_en is null
                order by fecha_proceso desc, creado_el desc, cod_cuenta limit 1
            ) as t
        ) as o using (nro_documento)
        where p.fecha_pago in (select dia from pay_days)
          and p.eliminado_en is null and p.monto_cancelado > 0 and coalesce(trim(p.motivo_rechazo), '') = ''
    ) as counted
    -- More than three a day of one document are a mistake of the source's.
    where of_the_day <= 3;
analyze paid;

create temporary table payments on commit drop as
    select a.archivo, p.nro_documento, p.fecha_pago, p.monto, a.cuenta, a.cod_luna, a.member,
           exists (select from whole w where w.archivo = a.archivo) as whole
    from paid p join aux_accounts a using (cuenta)
    join aux_campaigns c on c.archivo = a.archivo and p.fecha_pago between c.opens and c.closes;
analyze payments;

-- Accounts of other campaigns whose payments are not what they were.
create temporary table repaid on commit drop as
    select distinct archivo, cuenta
    from (select archivo, nro_documento, fecha_pago, monto, cuenta from aux_payments p
          where p.fecha_pago in (select dia from pay_days)
            and not exists (select from whole w where w.archivo = p.archivo)) as o
    full join (select archivo, nro_documento, fecha_pago, monto, cuenta from payments where not whole) as n
        using (archivo, nro_documento, fecha_pago, monto, cuenta)
    where o is null or n is null;

-- Accounts that are cut alike, by number: sums by a number and a day are cheaper than by what the number stands for. In the
-- order of their campaigns.
create temporary table cuts on commit drop as
    select row_number() over (order by archivo, servicio, tramo, vencimiento, rango_deuda)::integer as cut,
           dense_rank() over (order by archivo)::integer as campaign,
           archivo, servicio, tramo, vencimiento, rango_deuda, opens, closes,
           exists (select from whole w where w.archivo = a.archivo) as whole
    from (select distinct archivo, servicio, tramo, vencimiento, rango_deuda from aux_accounts) as a
    join aux_campaigns using (archivo);
analyze cuts;

-- Accounts of other campaigns whose figures change: with them go their sums as they were, before what follows makes
-- them others.
create temporary table scope on commit drop as
    select archivo, cuenta, cut
    from (
        select archivo, cuenta from repaid
        union
        select a.archivo, a.cuenta from aux_accounts a where a.member in (select member from changed_days)
    ) as s
    join aux_accounts using (archivo, cuenta) join cuts using (archivo, servicio, tramo, vencimiento, rango_deuda);
create index on scope (archivo, cuenta);
analyze scope;

create temporary table changes (
    cut integer not null, dia date not null, cuentas integer not null default 0, fraccionadas integer not null default 0,
    gestionadas integer not null default 0, gestiones integer not null default 0, cd integer not null default 0,
    ci integer not null default 0, pdp integer not null default 0, pdp_frac integer not null default 0,
    pagadoras integer not null default 0, recupero numeric not null default 0, deuda_asig numeric not null default 0,
    deuda_act numeric not null default 0
) on commit drop;
