use async_trait::async_trait;
use sea_orm_migration::prelude::{ConnectionTrait as _, DbErr, MigrationName, MigrationTrait, SchemaManager};

/// The tables of this crate, for a service's `Migrator` to include before its own.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(Tables), Box::new(LettersByMessage)]
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &'static str {
        "m20260701_000001_outbox"
    }
}

#[async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await.map(drop)
    }
}

/// Serves the inbox's pruning, which asks for the letters of a message.
struct LettersByMessage;

impl MigrationName for LettersByMessage {
    fn name(&self) -> &'static str {
        "m20261126_000001_outbox_letters_by_message"
    }
}

#[async_trait]
impl MigrationTrait for LettersByMessage {
    /// What is made concurrently is made outside of a transaction.
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // One statement a call: several are a transaction. An attempt that was broken off leaves an index that is
        // not valid. It waits for every older transaction in the database, a backup's too, and locks nobody out.
        let connection = manager.get_connection();
        for statement in [
            "SET lock_timeout = 0",
            "DROP INDEX CONCURRENTLY IF EXISTS dead_letters_message",
            "CREATE INDEX CONCURRENTLY dead_letters_message ON dead_letters (message_id)",
            "RESET lock_timeout",
        ] {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let drop_it = "DROP INDEX CONCURRENTLY IF EXISTS dead_letters_message";
        manager.get_connection().execute_unprepared(drop_it).await.map(drop)
    }
}

/// The outbox is a queue: all its rows die young. Autovacuum must follow by count (the default waits for
/// a fifth of the table, which for a queue that is empty most of the time means never), or the relay
/// walks over the dead.
const UP: &str = "
CREATE TABLE outbox (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination text NOT NULL,
    message_id  uuid NOT NULL,
    kind        text NOT NULL,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    next_at     timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    last_error  text
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 20000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);
-- Serves the relay's lanes: the due rows of one destination, oldest first, and the list of destinations.
CREATE INDEX outbox_due ON outbox (destination, next_at, id);

CREATE TABLE inbox (
    consumer    text NOT NULL,
    message_id  uuid NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05);
-- Serves pruning.
CREATE INDEX inbox_received ON inbox (received_at);

CREATE TABLE dead_letters (
    id              uuid PRIMARY KEY,
    queue           text NOT NULL,
    message_id      uuid,
    -- What a letter is recognised by when it is delivered twice: the message's id, or a hash of what
    -- can't be read.
    fingerprint     text NOT NULL,
    kind            text,
    -- As text where it is text, else as bytes.
    body            text,
    body_raw        bytea,
    decodable       boolean NOT NULL,
    reason          text NOT NULL,
    error           text NOT NULL,
    attempts        integer NOT NULL,
    first_failed_at timestamptz,
    failed_at       timestamptz NOT NULL,
    archived_at     timestamptz NOT NULL DEFAULT now(),
    origin          text NOT NULL,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'discarded')),
    replayed_at     timestamptz,
    replay_count    integer NOT NULL DEFAULT 0,
    resolved_by     text,
    resolved_at     timestamptz,
    CHECK (num_nonnulls(body, body_raw) = 1),
    CHECK (decodable OR state <> 'replayed'),
    CHECK ((state = 'open') = (resolved_by IS NULL)),
    CHECK ((state = 'open') = (resolved_at IS NULL))
);
CREATE UNIQUE INDEX dead_letters_once ON dead_letters (queue, fingerprint);
-- Serve the lists (newest first, keyset pages), by state, and by queue and state.
CREATE INDEX dead_letters_recent ON dead_letters (failed_at DESC, id DESC);
CREATE INDEX dead_letters_state ON dead_letters (state, failed_at DESC, id DESC);
CREATE INDEX dead_letters_queue ON dead_letters (queue, state, failed_at DESC, id DESC);
-- Serves a replay of all, which walks by id, and pruning.
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE state = 'open';
CREATE INDEX dead_letters_resolved ON dead_letters (resolved_at) WHERE state <> 'open';

CREATE TABLE dead_letter_audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT now(),
    actor   text NOT NULL,
    action  text NOT NULL CHECK (action IN ('replay', 'discard')),
    filter  jsonb NOT NULL,
    dry_run boolean NOT NULL,
    matched bigint NOT NULL,
    count   bigint NOT NULL,
    CHECK (NOT dry_run OR count = 0)
);
";

const DOWN: &str = "DROP TABLE dead_letter_audit, dead_letters, inbox, outbox";
