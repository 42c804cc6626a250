use sea_orm_migration::prelude::*;

/// The tables of this crate: `jwks_cache`.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(JwksCache)]
}

/// All migrations of a service: of the crates whose tables are in its schema, outbox, jobs and this one, and then its own.
pub fn migrations_with(own: Vec<Box<dyn MigrationTrait>>) -> Vec<Box<dyn MigrationTrait>> {
    let mut all = outbox::migrations();
    all.extend(jobs::migrations());
    all.extend(migrations());
    all.extend(own);
    all
}

/// A migration that is SQL alone, each way in one transaction. It is recorded under the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct SqlMigration {
    /// `file!()` where it is written down: once it is released, the file keeps its name.
    pub file: &'static str,
    /// Brings the schema to this version.
    pub up: &'static str,
    /// Takes it back to the one before.
    pub down: &'static str,
}

impl MigrationName for SqlMigration {
    fn name(&self) -> &str {
        sea_orm_migration::util::get_file_stem(self.file)
    }
}

#[async_trait::async_trait]
impl MigrationTrait for SqlMigration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.up).await.map(drop)
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.down).await.map(drop)
    }
}

struct JwksCache;

impl MigrationName for JwksCache {
    fn name(&self) -> &str {
        "m20250101_000001_chassis_jwks_cache"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for JwksCache {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(
                "CREATE TABLE jwks_cache (
                    issuer     text PRIMARY KEY,
                    jwks       jsonb NOT NULL,
                    fetched_at timestamptz NOT NULL DEFAULT now()
                )",
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared("DROP TABLE IF EXISTS jwks_cache").await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_has_the_name_of_its_file() {
        let file = "services/etl/src/storage/migrations/m0001_runs.rs";
        assert_eq!(SqlMigration { file, up: "", down: "" }.name(), "m0001_runs");
    }
}
