-- Collections: what BigQuery says (raw_*), what follows from it an account and a day (aux_*), and what the dashboards
-- read (mart_*). Names of raw columns are the source's.

-- The rest of a source's row is in `extra`. `huella` is a hash of all that the source sent, `leido_en` the moment of
-- the source's snapshot that the row is from; a row that the source does not have any more keeps its place with
-- `eliminado_en`.
create table raw_calendario (
    archivo text not null,
    periodo_date date not null,
    fecha_apertura date not null,
    fecha_trandeuda date,
    fecha_cierre date,
    tipo_cartera text,
    duracion_campana_dias_habiles bigint,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (archivo, periodo_date)
);

create table raw_asignaciones (
    cod_luna text not null,
    cuenta text not null,
    archivo text not null,
    fecha_asignacion date not null,
    creado_el timestamptz not null,
    telefono text,
    tramo_gestion text,
    min_vto date,
    negocio text,
    fraccionamiento text,
    zona text,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (archivo, cuenta, cod_luna, fecha_asignacion)
);
create index on raw_asignaciones (cuenta);
create index on raw_asignaciones (creado_el);

create table raw_trandeuda (
    cod_cuenta text not null,
    nro_documento text not null,
    archivo text not null,
    fecha_proceso date not null,
    creado_el timestamptz not null,
    fecha_vencimiento date,
    monto_exigible numeric(18, 4) not null,
    motivo_rechazo text,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (fecha_proceso, cod_cuenta, nro_documento, archivo)
);
-- Whose a document is: its last row says so.
create index on raw_trandeuda (nro_documento, fecha_proceso desc, creado_el desc, cod_cuenta);
create index on raw_trandeuda (creado_el);

create table raw_pagos (
    nro_documento text not null,
    fecha_pago date not null,
    monto_cancelado numeric(18, 4) not null,
    creado_el timestamptz not null,
    cod_sistema text,
    archivo text,
    motivo_rechazo text,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (nro_documento, fecha_pago, monto_cancelado)
);
create index on raw_pagos (creado_el);
create index on raw_pagos (fecha_pago);

create table raw_voicebot_gestiones (
    uid text primary key,
    "date" timestamptz not null,
    -- Days are Lima's, whatever the zone of who asks.
    dia date not null generated always as (("date" at time zone 'America/Lima')::date) stored,
    document text,
    phone text,
    management text,
    sub_management text,
    compromiso text,
    fecha_compromiso date,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz
);
create index on raw_voicebot_gestiones ("date");
create index on raw_voicebot_gestiones (document);

create table raw_mibotair_gestiones (
    uid text primary key,
    "date" timestamptz not null,
    dia date not null generated always as (("date" at time zone 'America/Lima')::date) stored,
    document text,
    phone text,
    n1 text,
    n2 text,
    n3 text,
    nombre_agente text,
    correo_agente text,
    monto_compromiso numeric(18, 4),
    fecha_compromiso date,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz
);
create index on raw_mibotair_gestiones ("date");
create index on raw_mibotair_gestiones (document);

-- Keys of rules have '' where the source has null.
create table raw_homologacion_voicebot (
    management text not null,
    sub_management text not null,
    compromiso text not null,
    contactabilidad text,
    pdp text,
    peso numeric(18, 4),
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (management, sub_management, compromiso)
);

create table raw_homologacion_mibotair (
    n1 text not null,
    n2 text not null,
    n3 text not null,
    contactabilidad text,
    pdp text,
    peso numeric(18, 4),
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz,
    primary key (n1, n2, n3)
);

create table raw_ejecutivos (
    correo_name text primary key,
    nombre text,
    document text,
    extra jsonb not null default '{}',
    huella text not null,
    leido_en timestamptz not null,
    eliminado_en timestamptz
);

-- What the marts have not seen yet. Triggers write it, so that whatever writes a raw table can't forget to.
create table raw_changes (
    source text not null,
    archivo text,
    dia date
);

-- Arguments: what the file and the day of a row of the table are; 'null' where it has none.
create function note_raw_changes() returns trigger language plpgsql as $$
begin
    if tg_op in ('INSERT', 'UPDATE') then
        execute format('insert into raw_changes select distinct %L, (%s)::text, (%s)::date from newer',
                       tg_table_name, tg_argv[0], tg_argv[1]);
    end if;
    if tg_op in ('DELETE', 'UPDATE') then
        execute format('insert into raw_changes select distinct %L, (%s)::text, (%s)::date from older',
                       tg_table_name, tg_argv[0], tg_argv[1]);
    end if;
    return null;
end
$$;

do $$
declare
    watched record;
begin
    for watched in
        select * from (values
            ('raw_calendario', 'archivo', 'null'),
            ('raw_asignaciones', 'archivo', 'null'),
            ('raw_trandeuda', 'null', 'fecha_proceso'),
            ('raw_pagos', 'null', 'fecha_pago'),
            ('raw_voicebot_gestiones', 'null', 'dia'),
            ('raw_mibotair_gestiones', 'null', 'dia'),
            ('raw_homologacion_voicebot', 'null', 'null'),
            ('raw_homologacion_mibotair', 'null', 'null'),
            ('raw_ejecutivos', 'null', 'null')
        ) as all_of_them (name, archivo, dia)
    loop
        execute format('create trigger noted_insert after insert on %I referencing new table as newer
                        for each statement execute function note_raw_changes(%L, %L)',
                       watched.name, watched.archivo, watched.dia);
        execute format('create trigger noted_update after update on %I referencing new table as newer old table as older
                        for each statement execute function note_raw_changes(%L, %L)',
                       watched.name, watched.archivo, watched.dia);
        execute format('create trigger noted_delete after delete on %I referencing old table as older
                        for each statement execute function note_raw_changes(%L, %L)',
                       watched.name, watched.archivo, watched.dia);
    end loop;
end
$$;

-- A campaign is an assigned file with its window. `archivo` is the assignments' spelling, with `.txt`.
create table aux_campaigns (
    archivo text primary key,
    cartera text not null,
    opens date not null,
    -- 'infinity' while it is open.
    closes date not null,
    -- Of the source; none while it is open.
    fecha_cierre date,
    fecha_trandeuda date,
    dias_habiles bigint,
    fecha_asignacion date
);

-- The debt of an account on a day that the source took a snapshot of debts.
create table aux_debt (
    cuenta text not null,
    dia date not null,
    deuda numeric(18, 4) not null,
    primary key (cuenta, dia)
);
create index on aux_debt (dia);

-- The days with a snapshot, and the next of each.
create table aux_snapshots (
    dia date primary key,
    next date
);

-- An account in a campaign: whose it is, how it is cut, and the first day of all that counts.
create table aux_accounts (
    archivo text not null,
    cuenta text not null,
    cod_luna text not null,
    servicio text not null,
    tramo text not null,
    -- Day of the month; 0: none.
    vencimiento smallint not null,
    rango_deuda text not null,
    fraccionado boolean not null,
    fecha_asignacion date not null,
    deuda_asig numeric(18, 4) not null,
    first_managed date,
    first_ci date,
    first_cd date,
    first_promise date,
    first_paid date,
    primary key (archivo, cuenta)
);

-- A management in a campaign that it reaches.
create table aux_calls (
    archivo text not null,
    canal text not null,
    uid text not null,
    cod_luna text not null,
    dia date not null,
    hora smallint not null,
    at timestamptz not null,
    nivel text not null,
    promise boolean not null,
    agent text,
    -- The client's nth in the campaign.
    attempt integer not null,
    -- The first day on or after the call's with a payment of the client's in the campaign.
    paid_on date,
    primary key (archivo, canal, uid)
);
create index on aux_calls (dia);

-- A valid payment of an account in a campaign, and the last direct contact before it.
create table aux_payments (
    archivo text not null,
    nro_documento text not null,
    fecha_pago date not null,
    monto numeric(18, 4) not null,
    cuenta text not null,
    cod_luna text not null,
    call_canal text,
    call_uid text,
    call_at timestamptz,
    call_dia date,
    call_hora smallint,
    call_agent text,
    primary key (archivo, nro_documento, fecha_pago, monto)
);
create index on aux_payments (fecha_pago);

-- What changes on a day, summed over the accounts of a campaign that are cut alike: the figures of any day are the sums
-- up to it. An account counts from its campaign's first day.
create table mart_days (
    archivo text not null,
    dia date not null,
    servicio text not null,
    tramo text not null,
    vencimiento smallint not null,
    rango_deuda text not null,
    cuentas bigint not null,
    fraccionadas bigint not null,
    gestionadas bigint not null,
    gestiones bigint not null,
    -- Accounts whose best level it is: what becomes CD is CI no more.
    cd bigint not null,
    ci bigint not null,
    pdp bigint not null,
    pdp_frac bigint not null,
    pagadoras bigint not null,
    recupero numeric(24, 4) not null,
    deuda_asig numeric(24, 4) not null,
    deuda_act numeric(24, 4) not null,
    primary key (archivo, dia, servicio, tramo, vencimiento, rango_deuda)
);

-- Clients, by number.
create table aux_clients (
    cod_luna text primary key,
    id bigint not null generated always as identity
);

-- The clients of a campaign.
create table mart_clients (
    archivo text not null,
    client bigint not null,
    primary key (archivo, client)
);

-- The calls of a day: by channel, hour, attempt and queue (part), and the accounts that were managed (`calls`: how often,
-- `cd`: how many).
create table mart_calls (
    dia date not null,
    part text not null,
    name text not null,
    calls bigint not null,
    cd bigint not null,
    ci bigint not null,
    promises bigint not null,
    primary key (dia, part, name)
);

-- The calls of an agent on a day, by the first day on which a payment followed their promises.
create table mart_agents (
    dia date not null,
    agent text not null,
    -- 'infinity': none did.
    paid_on date not null,
    calls bigint not null,
    contacts bigint not null,
    promises bigint not null,
    primary key (dia, agent, paid_on)
);

-- Which data the dashboards show. One row; it changes in the transaction that changes the marts.
create table mart_version (
    only_one boolean primary key default true check (only_one),
    version bigint not null,
    -- The oldest snapshot of the source that went in.
    as_of timestamptz,
    refreshed_at timestamptz,
    -- Why the marts are held back; none: they are not.
    held_back text
);
insert into mart_version (version) values (0);

-- Where each stream is: everything before the watermark is in its raw table, as the source had it at `read_at`.
create table raw_streams (
    stream text primary key,
    watermark timestamptz,
    read_at timestamptz,
    run uuid
);

-- Keys (hashed) that a run has met in its present slice: the others of that slice are gone.
create table raw_met (
    run uuid not null,
    key bigint not null,
    primary key (run, key)
);

-- Records that could not be read, with why, as they came.
create table raw_quarantine (
    -- A hash: the same bad record is one row, however often it comes.
    id text primary key,
    stream text not null,
    clave text not null,
    regla text not null,
    registro jsonb not null,
    corrida uuid not null,
    visto_en timestamptz not null
);
create index on raw_quarantine (stream, visto_en);
