//! Imports and rollbacks of command lines that died, where somebody asked for their end: no worker can go on with them, for
//! their files are elsewhere.

use std::{sync::Arc, time::Duration};

use jobs::{Runner, Work};
use sea_orm::sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::{
    config::ImportSettings,
    import::files::InPlace,
    jobs::{
        import_contacts::{self, ImportContacts},
        roll_back_import::{self, RollBackImports},
    },
    storage::imports,
};

/// How often they are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// Ends them.
pub struct Orphans {
    pool: PgPool,
    runner: Runner,
    imports: ImportContacts,
    rollbacks: RollBackImports,
}

impl Orphans {
    pub fn new(pool: PgPool, settings: &Arc<ImportSettings>) -> Self {
        let imports = ImportContacts {
            pool: pool.clone(),
            settings: Arc::clone(settings),
            show: Box::new(|_, _| {}),
            files: Box::new(InPlace),
        };
        let rollbacks = RollBackImports { pool: pool.clone(), settings: Arc::clone(settings) };
        let runner = Runner::new(pool.clone()).lease(settings.lease);
        Self { pool, runner, imports, rollbacks }
    }

    /// Looks every few seconds, until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.end_some(&shutdown).await {
                tracing::debug!(%error, "could not look for cancelled jobs of command lines, will try again");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn end_some(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let kinds = [import_contacts::LOCAL_KIND, roll_back_import::LOCAL_KIND];
        let orphans = imports::unheld_to_cancel(&self.pool, &kinds).await?;
        for (id, kind) in orphans {
            let work: &dyn Work =
                if kind == import_contacts::LOCAL_KIND { &self.imports } else { &self.rollbacks };
            // Its end was asked for: claimed, it is ended, and no work begins.
            let ended = self.runner.run(id, shutdown, work).await;
            ended.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }
}
