use sea_orm_migration::prelude::*;

/// The tables of this crate, for a service's `Migrator` to include: `jwks_cache`.
pub fn migrations() -> Vec<Box<dyn MigrationTrait>> {
    vec![Box::new(JwksCache)]
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
