use async_trait::async_trait;
use sea_orm_migration::prelude::{ConnectionTrait as _, DbErr, MigrationName, MigrationTrait, SchemaManager};

/// The tables of this crate, for a service's `Migrator` to include before its own.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Tables), Box::new(Keys)]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m20260701_000002_jobs"
    }
}

#[async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE workers, jobs").await.map(drop)
    }
}

struct Keys;

impl MigrationName for Keys {
    fn name(&self) -> &'static str {
        "m20261126_000003_job_keys"
    }
}

#[async_trait]
impl MigrationTrait for Keys {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(KEYS).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE job_keys").await.map(drop)
    }
}

/// Keys of requests that found their job there already. A process of the version before knows none of them, and makes of
/// such a key's repetition a job of its own, as it did.
const KEYS: &str = "
CREATE TABLE job_keys (
    created_by      text NOT NULL,
    idempotency_key text NOT NULL,
    request_hash    text,
    job_id          uuid NOT NULL REFERENCES jobs ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (created_by, idempotency_key)
);
-- Serves the deletion of jobs.
CREATE INDEX job_keys_job ON job_keys (job_id);
";

/// A running job's row is updated with every batch and heartbeat. No index holds a column that those
/// change, and a page keeps room, so that they are heap-only updates.
const UP: &str = "
CREATE TABLE jobs (
    id                  uuid PRIMARY KEY,
    kind                text NOT NULL,
    state               text NOT NULL DEFAULT 'pending'
                        CHECK (state IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    owner               text,
    epoch               bigint NOT NULL DEFAULT 0,
    lease_until         timestamptz,
    attempts            integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    max_attempts        integer NOT NULL CHECK (max_attempts > 0),
    next_run_at         timestamptz NOT NULL DEFAULT now(),
    -- When a nudge was last sent that nobody has answered yet, and how many in a row.
    nudged_at           timestamptz,
    nudges              integer NOT NULL DEFAULT 0,
    checkpoint          jsonb,
    total               bigint CHECK (total >= 0),
    processed           bigint NOT NULL DEFAULT 0 CHECK (processed >= 0),
    successful          bigint NOT NULL DEFAULT 0 CHECK (successful >= 0),
    failed              bigint NOT NULL DEFAULT 0 CHECK (failed >= 0),
    params              jsonb NOT NULL,
    result              jsonb,
    error               text,
    cancel_requested_at timestamptz,
    created_by          text,
    idempotency_key     text,
    request_hash        text,
    version             bigint NOT NULL DEFAULT 1,
    traceparent         text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    finished_at         timestamptz,
    CHECK ((state = 'running') = (owner IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'completed' OR error IS NULL),
    CHECK (state <> 'failed' OR error IS NOT NULL),
    CHECK (state <> 'cancelled' OR cancel_requested_at IS NOT NULL),
    CHECK (result IS NULL OR state = 'completed')
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
CREATE UNIQUE INDEX jobs_idempotency ON jobs (coalesce(created_by, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Serves the sweep: the live jobs, which are few beside the ended ones.
CREATE INDEX jobs_live ON jobs (kind, next_run_at) WHERE state IN ('pending', 'running');
-- Serve the lists, newest first, keyset pages.
CREATE INDEX jobs_recent ON jobs (created_at DESC, id DESC);
CREATE INDEX jobs_state ON jobs (state, created_at DESC, id DESC);
CREATE INDEX jobs_creator ON jobs (created_by, created_at DESC, id DESC);

CREATE TABLE workers (
    id         uuid PRIMARY KEY,
    service    text NOT NULL,
    host       text NOT NULL,
    pid        integer NOT NULL,
    version    text NOT NULL,
    queues     text[] NOT NULL,
    working    jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
";
