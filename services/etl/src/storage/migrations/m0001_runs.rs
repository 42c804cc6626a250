use chassis::SqlMigration;

pub const MIGRATION: SqlMigration = SqlMigration { file: file!(), up: UP, down: DOWN };

const UP: &str = "
-- A stream has one run at a time. A backfill has a lane of its own beside the live run.
create unique index jobs_one_run_a_stream on jobs ((params ->> 'lane'))
    where kind = 'etl.runs' and state in ('pending', 'running');
-- Webhooks about one resource that nobody has begun to fetch are one.
create unique index jobs_one_refetch_a_resource on jobs ((params ->> 'resource'))
    where kind = 'etl.webhooks' and state = 'pending' and started_at is null;
create index jobs_of_a_lane on jobs ((params ->> 'lane'), created_at desc, id desc) where kind = 'etl.runs';
create index jobs_of_a_group on jobs ((params ->> 'group')) where kind = 'etl.runs';

-- The epochs under which runs claim their streams in the databases that they write to.
create sequence stream_epochs;

-- The pace of each credential at its source, for when Redis is down, and what outlives a restart.
create table buckets (
    -- A hash: no credential is stored here.
    credential text primary key,
    next_at timestamptz not null default now(),
    cooldown_until timestamptz
);

-- Default schedules that were made once, whatever became of them since.
create table seeded_schedules (id uuid primary key);
";

const DOWN: &str = "
drop table seeded_schedules, buckets;
drop sequence stream_epochs;
drop index jobs_of_a_group, jobs_of_a_lane, jobs_one_refetch_a_resource, jobs_one_run_a_stream;
";
