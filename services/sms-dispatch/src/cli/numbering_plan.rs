//! `sms-dispatch numbering-plan import FILE`: the regulator's plan in the place of the one there is, and what it says of the
//! contacts there are.

use std::{fs::File, path::Path};

use anyhow::{Context as _, bail, ensure};
use chassis::{config::DatabaseSettings, db};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::drive::bar;
use crate::{
    advisory_lock::{self, AdvisoryLock},
    domain::numbering_plan::NumberingPlan,
    storage::{
        audit, batches, indexes,
        lookups::{self, StatusOf},
        numbering_plan as storage, views,
    },
};

/// Ranges, and what lies between them, whose contacts one transaction brings up to date.
const BATCH: usize = 200;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Ranges, after neighbours were merged.
    pub ranges: usize,
    /// Contacts of which something is known now that was not, or otherwise.
    pub contacts: u64,
}

/// Reads the file and applies it. It changes nothing a second time, so run it again where it was stopped.
///
/// # Errors
/// A file that is no numbering plan (with the line), an import that runs, the database.
pub async fn run(
    database: &DatabaseSettings,
    file: &Path,
    actor: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Applied> {
    let opened = File::open(file).with_context(|| format!("{} can't be opened", file.display()))?;
    let plan =
        NumberingPlan::read(opened).with_context(|| format!("{} is no numbering plan", file.display()))?;
    let pool = db::connect(database, "sms-dispatch numbering-plan", shutdown).await?.pool;
    // An import reads the plan once, and would go on loading what the old one says.
    let Some(_lock) = AdvisoryLock::try_take(&pool, advisory_lock::IMPORTS).await? else {
        bail!("an import or a rollback runs; wait for its end")
    };
    let there = indexes::there(&pool).await?;
    ensure!(
        there.iter().any(|name| name == indexes::PHONE.name),
        "an import was broken off in the midst of a load: let it end, or cancel it and roll it back"
    );
    let mut transaction = pool.begin().await?;
    batches::relax(&mut transaction).await?;
    storage::replace(&mut transaction, &plan).await?;
    storage::apply_to_staged(&mut transaction).await?;
    let details = json!({"file": file.display().to_string(), "ranges": plan.ranges().len()});
    audit::record(&mut transaction, actor, "numbering_plan_imported", None, &details).await?;
    transaction.commit().await?;

    let bar = bar();
    let spans: Vec<_> = plan.spans().collect();
    bar.set_length(spans.len() as u64);
    let mut contacts = 0;
    for some in spans.chunks(BATCH) {
        let mut transaction = pool.begin().await?;
        // Ranges that were merged may have any number of contacts.
        batches::relax(&mut transaction).await?;
        contacts += storage::apply(&mut transaction, some).await?;
        transaction.commit().await?;
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    // What a provider said stands above the plan. A validation takes no turn: where its answer was committed while a transaction
    // above waited for the same contact, that one wrote what it had read before.
    lookups::apply(&pool, StatusOf::Nobody).await?;
    views::refresh(&pool).await?;
    Ok(Applied { ranges: plan.ranges().len(), contacts })
}
