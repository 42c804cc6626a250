use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
create table ta_sms_maestro (
    -- Our own: what campaigns are called elsewhere stands beside it.
    id bigint generated always as identity primary key,
    fecha date not null,
    nombre text not null,
    estado text not null,
    descripcion text not null,
    -- Where it comes from: sms (events) or carga (the command load), and its id there.
    origen text not null check (origen in ('sms', 'carga')),
    origen_id text not null,
    version bigint not null default 0,
    filas_esperadas bigint,
    -- How many rows it has, and how often it or they changed.
    filas bigint not null default 0,
    cambios bigint not null default 0,
    unique (origen, origen_id)
) with (fillfactor = 80);
create index ta_sms_maestro_fecha on ta_sms_maestro (fecha, id);

create sequence ta_sms_detalle_id cache 100;
create table ta_sms_detalle (
    id bigint not null default nextval('ta_sms_detalle_id'),
    id_maestro bigint not null,
    -- The campaign's day.
    fecha date not null,
    -- The message's id where it comes from.
    mensaje_id uuid not null,
    version bigint not null,
    telefono text not null,
    mensaje text not null,
    fecha_envio timestamptz,
    estado text not null check (estado in ('ENVIADO', 'PENDIENTE', 'FALLIDO')),
    error text,
    -- Serves the keyset pages. The day is in it because it must be where there are partitions.
    primary key (id_maestro, id, fecha),
    unique (id_maestro, mensaje_id, fecha)
) partition by range (fecha);
create index ta_sms_detalle_envio on ta_sms_detalle using brin (fecha_envio);

-- How many campaigns each day has: counting a million of them takes too long for a list's page.
create table campaigns_per_day (
    fecha date primary key,
    total bigint not null
);
create function count_campaigns() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into campaigns_per_day (fecha, total)
        select fecha, count(*) from changed group by fecha order by fecha
        on conflict (fecha) do update set total = campaigns_per_day.total + excluded.total;
    else
        update campaigns_per_day d set total = d.total - c.total
        from (select fecha, count(*) as total from changed group by fecha) c where d.fecha = c.fecha;
    end if;
    return null;
end $$;
create trigger count_inserted after insert on ta_sms_maestro
    referencing new table as changed for each statement execute function count_campaigns();
create trigger count_deleted after delete on ta_sms_maestro
    referencing old table as changed for each statement execute function count_campaigns();

-- Makes a day's partition, unless it is there. Attaching one that is made before locks out no reader and no
-- writer of the others, as creating it in its place would.
create function ensure_day(p_fecha date) returns void language plpgsql as $$
declare
    v_name text := 'ta_sms_detalle_' || to_char(p_fecha, 'YYYYMMDD');
begin
    if to_regclass(v_name) is not null then
        return;
    end if;
    perform pg_advisory_xact_lock(hashtext(current_schema() || v_name));
    if to_regclass(v_name) is not null then
        return;
    end if;
    execute format('create table %I (like ta_sms_detalle including all)', v_name);
    execute format('alter table ta_sms_detalle attach partition %I for values from (%L) to (%L)',
                   v_name, p_fecha, p_fecha + 1);
end $$;

create function sp_obtener_campanas_por_fecha(p_fecha date)
returns table (id bigint, fecha date, nombre text, estado text, descripcion text)
language sql stable as $$
    select m.id, m.fecha, m.nombre, m.estado, m.descripcion
    from ta_sms_maestro m where m.fecha = p_fecha order by m.id
$$;

-- The rows of a campaign after the one with the id p_despues_de (0 for the first), p_tamano_pagina of them (null
-- for all). SQL that the planner inlines, so that COPY streams from it. Who knows the campaign's day says it, and
-- one partition is planned instead of all.
create function sp_obtener_detalle_campana_paginado(
    p_id bigint, p_despues_de bigint, p_tamano_pagina bigint, p_fecha date default null)
returns table (id bigint, telefono text, mensaje text, fecha_envio timestamptz, estado text, error text)
language sql stable as $$
    select d.id, d.telefono, d.mensaje, d.fecha_envio, d.estado, d.error
    from ta_sms_detalle d
    where d.fecha = coalesce(p_fecha, (select m.fecha from ta_sms_maestro m where m.id = p_id))
      and d.id_maestro = p_id and d.id > p_despues_de
    order by d.id limit p_tamano_pagina
$$;

-- A page of campaigns, newest day first, of one day or of all. The days' counts tell on which day a page begins,
-- so that a late page costs no more than an early one.
create function get_campanias_by_fecha(p_fecha date, p_page bigint, p_page_size bigint)
returns table (id bigint, fecha date, nombre text, estado text, descripcion text)
language sql stable as $$
    with days as (
        select d.fecha, d.total, (sum(d.total) over (order by d.fecha desc) - d.total)::bigint as before
        from campaigns_per_day d where p_fecha is null or d.fecha = p_fecha
    ), wanted as (
        select * from days d
        where d.before < p_page * p_page_size and d.before + d.total > (p_page - 1) * p_page_size
    )
    select m.id, m.fecha, m.nombre, m.estado, m.descripcion
    from wanted w cross join lateral (
        select * from ta_sms_maestro m where m.fecha = w.fecha order by m.id
        offset greatest((p_page - 1) * p_page_size - w.before, 0)
        limit least(p_page * p_page_size - w.before, p_page_size)
    ) m
    order by m.fecha desc, m.id limit p_page_size
$$;
";

const DOWN: &str = "
drop function get_campanias_by_fecha, sp_obtener_detalle_campana_paginado, sp_obtener_campanas_por_fecha, ensure_day;
drop table ta_sms_detalle;
drop sequence ta_sms_detalle_id;
drop table ta_sms_maestro;
drop function count_campaigns;
drop table campaigns_per_day;
";
