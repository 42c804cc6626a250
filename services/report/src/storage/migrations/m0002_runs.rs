use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
create table runs (
    -- The id of the job that begins it.
    id uuid primary key references jobs (id),
    fecha date not null,
    params jsonb not null,
    state text not null default 'pending'
        check (state in ('pending', 'running', 'completed', 'failed', 'cancelled')),
    files integer not null check (files > 0),
    done integer not null default 0,
    failed integer not null default 0,
    -- Of the files that are done.
    rows bigint not null default 0,
    bytes bigint not null default 0,
    created_by text not null,
    created_at timestamptz not null default now(),
    cancel_requested_at timestamptz,
    finished_at timestamptz,
    -- When its files were deleted for their age.
    purged_at timestamptz,
    version bigint not null default 1,
    check (done + failed <= files),
    check ((state in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
    check (state <> 'completed' or done = files)
) with (fillfactor = 70);
create index runs_recent on runs (created_at desc, id desc);
create index runs_day on runs (fecha, created_at desc);

-- One a campaign; with campaign 0, the one of a summary.
create table run_files (
    run_id uuid not null references runs (id),
    campaign_id bigint not null,
    -- The job that makes it, once the run has begun.
    job_id uuid unique references jobs (id),
    -- Once it is made.
    object_key text,
    rows bigint,
    bytes bigint,
    sha256 text,
    -- What the campaign's count of changes was in the snapshot that the file shows.
    changes bigint,
    primary key (run_id, campaign_id),
    check ((object_key is null) = (sha256 is null))
);
create index run_files_campaign on run_files (campaign_id, run_id);

create table schedules (
    id uuid primary key,
    cron text not null,
    zone text not null,
    missed text not null check (missed in ('saltar', 'ultima', 'todas')),
    params jsonb not null,
    active boolean not null,
    next_at timestamptz not null,
    last_at timestamptz,
    -- The run that it started last, or why it could not.
    last_run uuid references runs (id) on delete set null,
    last_error text,
    created_by text not null,
    created_at timestamptz not null default now(),
    version bigint not null default 1
);
create index schedules_due on schedules (next_at) where active;

-- How far the command load has come with a file.
create table loads (
    -- SHA-256 of the file's beginning, its size and kind.
    fingerprint text primary key,
    filename text not null,
    position_bytes bigint not null,
    rows bigint not null,
    finished boolean not null default false,
    updated_at timestamptz not null default now()
);

-- The campaigns of a day of which no file was made yet.
create function obtener_maestros_sin_reporte(p_fecha date)
returns table (id bigint, fecha date, nombre text, estado text, descripcion text)
language sql stable as $$
    select m.id, m.fecha, m.nombre, m.estado, m.descripcion
    from ta_sms_maestro m
    where m.fecha = p_fecha
      and not exists (select from run_files f where f.campaign_id = m.id and f.object_key is not null)
    order by m.id
$$;
";

const DOWN: &str = "
drop function obtener_maestros_sin_reporte;
drop table loads, schedules, run_files, runs;
";
