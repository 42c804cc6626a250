//! What only a real PostgreSQL can say: which contacts a search and a segment find.

mod search;
mod segments;

use chassis::{
    config::DatabaseSettings,
    db::{self, Database},
};
use sms_dispatch::storage::migrations::Migrator;
use stack::Namespace;
use tokio_util::sync::CancellationToken;

/// A schema of its own, at this version.
async fn database(label: &str) -> anyhow::Result<(Namespace, Database)> {
    let namespace = Namespace::create(label).await?;
    let settings = DatabaseSettings::at(&namespace.database_url);
    let shutdown = CancellationToken::new();
    db::migrate::<Migrator>(&settings, "test", &shutdown).await?;
    let database = db::connect(&settings, "test", &shutdown).await?;
    Ok((namespace, database))
}
