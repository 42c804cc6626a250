use sea_orm_migration::prelude::*;

/// The gateway's migrations, with those of the crates whose tables live in its schema.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        // Those of jobs for its row among the workers; it has no jobs.
        chassis::migrations_with(vec![Box::new(Identity), Box::new(AuditByAction), Box::new(EndedSessions)])
    }
}

struct Identity;

impl MigrationName for Identity {
    fn name(&self) -> &'static str {
        "m20250201_000001_gateway_identity"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Identity {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(TABLES).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = "refresh_tokens, token_families, api_keys, users, signing_keys, login_throttle, audit";
        manager.get_connection().execute_unprepared(&format!("DROP TABLE IF EXISTS {tables}")).await?;
        Ok(())
    }
}

struct AuditByAction;

impl MigrationName for AuditByAction {
    fn name(&self) -> &'static str {
        "m20250301_000001_gateway_audit_by_action"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AuditByAction {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statement = "CREATE INDEX audit_action ON audit (action, id)";
        manager.get_connection().execute_unprepared(statement).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP INDEX audit_action").await.map(drop)
    }
}

struct EndedSessions;

impl MigrationName for EndedSessions {
    fn name(&self) -> &'static str {
        "m20250401_000001_gateway_ended_sessions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for EndedSessions {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let statements = "CREATE TABLE ended_sessions (id uuid PRIMARY KEY, until timestamptz NOT NULL);
                          CREATE INDEX ended_sessions_until ON ended_sessions (until)";
        manager.get_connection().execute_unprepared(statements).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE ended_sessions").await.map(drop)
    }
}

const TABLES: &str = "
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL UNIQUE CHECK (username = lower(username)),
    email         text UNIQUE CHECK (email = lower(email)),
    name          text NOT NULL,
    password_hash text NOT NULL,
    role          text NOT NULL CHECK (role IN ('admin', 'operator', 'supplier', 'viewer')),
    proveedor_id  text,
    disabled_at   timestamptz,
    last_login_at timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    CHECK (role <> 'supplier' OR proveedor_id IS NOT NULL),
    CHECK (role IN ('supplier', 'viewer') OR proveedor_id IS NULL)
);

-- One row a login: a chain of refresh tokens, or the session behind a cookie.
CREATE TABLE token_families (
    id             uuid PRIMARY KEY,
    user_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    session_digest bytea UNIQUE,
    generation     integer NOT NULL,
    advanced_at    timestamptz NOT NULL,
    last_used_at   timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    revoked_at     timestamptz,
    revoked_for    text
);
CREATE INDEX token_families_user ON token_families (user_id);
CREATE INDEX token_families_expiry ON token_families (expires_at);

CREATE TABLE refresh_tokens (
    id         uuid PRIMARY KEY,
    family_id  uuid NOT NULL REFERENCES token_families ON DELETE CASCADE,
    digest     bytea NOT NULL UNIQUE,
    generation integer NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text NOT NULL,
    prefix       text NOT NULL UNIQUE,
    digest       bytea NOT NULL UNIQUE,
    scopes       text[] NOT NULL,
    role         text NOT NULL CHECK (role IN ('admin', 'operator', 'supplier', 'viewer')),
    proveedor_id text,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    CHECK (role <> 'supplier' OR proveedor_id IS NOT NULL),
    CHECK (role IN ('supplier', 'viewer') OR proveedor_id IS NULL)
);
CREATE INDEX api_keys_user ON api_keys (user_id, id);

CREATE TABLE signing_keys (
    kid          text PRIMARY KEY,
    public_key   bytea NOT NULL,
    sealed_seed  bytea NOT NULL,
    activates_at timestamptz NOT NULL,
    created_at   timestamptz NOT NULL
);

CREATE TABLE login_throttle (
    key            text PRIMARY KEY,
    failures       integer NOT NULL,
    last_failed_at timestamptz NOT NULL,
    blocked_until  timestamptz NOT NULL
);
CREATE INDEX login_throttle_age ON login_throttle (last_failed_at);

-- No foreign keys: what was done outlives who did it.
CREATE TABLE audit (
    id       uuid PRIMARY KEY,
    at       timestamptz NOT NULL,
    action   text NOT NULL,
    actor_id uuid,
    actor    text,
    target   text,
    address  text,
    details  jsonb NOT NULL
);
CREATE INDEX audit_actor ON audit (actor_id, id);
CREATE INDEX audit_target ON audit (target, id);
";
