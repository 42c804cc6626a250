//! Changes of tables that others use meanwhile.

use std::time::Duration;

use sea_orm::RuntimeErr;
use sea_orm_migration::prelude::*;

/// How long a statement waits for its lock. So long all others wait too who come behind it.
const WAITS: &str = "500ms";
/// How long they have the table to themselves before it tries again.
const PAUSE: Duration = Duration::from_millis(500);
/// As long as the longest reader may take.
const TRIES: usize = 1_200;

/// A migration of tables that are in use: each table in a transaction of its own, so that nobody waits for two of them, and indexes
/// concurrently. What was done before an attempt broke off is found done by the next. It is recorded under the name of its file.
#[derive(Clone, Copy)]
pub struct OnlineMigration {
    /// `file!()` where it is written down: once it is released, the file keeps its name.
    pub file: &'static str,
    /// Run first, each by [`briefly`]. Columns are empty, or have a default that is written nowhere.
    pub tables: &'static [&'static str],
    /// What has to read rows, and locks nothing: run next, a transaction each. A second run adds nothing.
    pub fills: &'static [&'static str],
    /// Made last: name, and what stands behind `on`, as [`index`] takes them.
    pub indexes: &'static [(&'static str, &'static str)],
    /// Takes the schema back to the one before.
    pub down: &'static str,
}

impl MigrationName for OnlineMigration {
    fn name(&self) -> &str {
        sea_orm_migration::util::get_file_stem(self.file)
    }
}

#[async_trait::async_trait]
impl MigrationTrait for OnlineMigration {
    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in self.tables {
            briefly(manager, table).await?;
        }
        for fill in self.fills {
            manager.get_connection().execute_unprepared(fill).await?;
        }
        for (name, on) in self.indexes {
            index(manager, name, on).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.down).await.map(drop)
    }
}

/// Runs statements that lock a table against everybody for an instant, in a transaction of their own. They don't stand in line
/// behind a long reader, for all others would stand behind them: they give up soon, and try again. Call it outside of a
/// transaction, with what may be run again.
///
/// # Errors
/// Locks that were not to be had for twenty minutes; any other error at once.
pub(super) async fn briefly(manager: &SchemaManager<'_>, statements: &str) -> Result<(), DbErr> {
    let all = format!("set local lock_timeout = '{WAITS}';\n{statements}");
    let mut tries = 0;
    loop {
        tries += 1;
        match manager.get_connection().execute_unprepared(&all).await {
            Err(error) if tries < TRIES && has_no_lock(&error) => {
                tracing::info!(tries, "a table is not changed yet: somebody uses it");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done.map(drop),
        }
    }
}

/// How long an index waits for the transactions that are older than it.
const INDEX_WAITS: &str = "20min";

/// Makes an index concurrently, in place of one of its name that an attempt left which was broken off. `on` is what stands behind
/// `on` in SQL. Call it outside of a transaction.
///
/// # Errors
/// The database; transactions that are older than the index and don't end within twenty minutes. It can be run again.
async fn index(manager: &SchemaManager<'_>, name: &str, on: &str) -> Result<(), DbErr> {
    let conn = manager.get_connection();
    // A statement each: several in one call are a transaction. They have one connection, for who migrates has no other free.
    conn.execute_unprepared(&format!("set lock_timeout = '{INDEX_WAITS}'")).await?;
    conn.execute_unprepared(&format!("drop index concurrently if exists {name}")).await?;
    conn.execute_unprepared(&format!("create index concurrently {name} on {on}")).await?;
    conn.execute_unprepared("reset lock_timeout").await.map(drop)
}

/// `lock_not_available`, `deadlock_detected`.
fn has_no_lock(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| matches!(code.as_ref(), "55P03" | "40P01"))
}
