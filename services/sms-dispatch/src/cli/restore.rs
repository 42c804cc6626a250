//! `sms-dispatch contacts restore FILE`: the contacts of a backup in the place of those there are. Suppressions are never
//! replaced, only added to: who opted out after the backup stays out.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, bail, ensure};
use bytes::BytesMut;
use chassis::{config::DatabaseSettings, db};
use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgConnection};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backup::{beside, checksum};
use crate::{
    advisory_lock::{self, AdvisoryLock},
    config::ImportSettings,
    storage::{
        audit, batches, index_builds, indexes,
        lookups::{self, StatusOf},
        suppressions, views,
    },
};

/// What a restore replaces, in an order that foreign keys allow.
const TABLES: [&str; 10] = [
    "imports",
    "import_batches",
    "import_staged",
    "contacts",
    "contact_rejects",
    "contact_merges",
    "contact_changes",
    "numbering_plan",
    "source_missing_ladas",
    "source_statistics",
];

/// What a restore only adds to, beside suppressions and look-ups: what people made since stays theirs.
const ADDED_TO: [&str; 2] = ["segments", "consent_withdrawals"];

/// What a restore only adds to as well: what was paid for since stays known.
const LOOKUPS: &str = "phone_lookups";

/// Pieces of this many bytes go to the server.
const PIECE: usize = 256 << 10;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    pub contacts: u64,
    /// Suppressions that the backup has and that were gone.
    pub suppressions: u64,
}

/// Restores `file`, in one transaction but for its suppressions, which are added before it, and the indexes, which are built
/// after it.
///
/// # Errors
/// A checksum that is missing or wrong, a file of another program, an import that runs, the database.
pub async fn run(
    database: &DatabaseSettings,
    settings: &ImportSettings,
    file: &Path,
    actor: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<Restored> {
    let sums = beside(file, "sha256");
    let expected =
        std::fs::read_to_string(&sums).with_context(|| format!("{} can't be read", sums.display()))?;
    let expected = expected.split_whitespace().next().unwrap_or_default();
    let sum = checksum(file)?;
    ensure!(sum == expected, "{} is damaged: its SHA-256 is {sum}, expected {expected}", file.display());

    let pool = db::connect(database, "sms-dispatch restore", shutdown).await?.pool;
    let Some(_lock) = AdvisoryLock::try_take(&pool, advisory_lock::IMPORTS).await? else {
        bail!("an import or a rollback runs; wait for its end")
    };
    // In a transaction of their own: who opts out meanwhile must not wait until the contacts are there, as the second one to
    // write the same row would.
    let mut transaction = pool.begin().await?;
    batches::relax(&mut transaction).await?;
    suppressions::turn(&mut transaction).await?;
    let added = add(&mut transaction, file, "suppressions").await?;
    transaction.commit().await?;
    let mut transaction = pool.begin().await?;
    batches::relax(&mut transaction).await?;
    // Whoever suppresses somebody meanwhile waits, and then finds the contacts that are restored.
    suppressions::turn(&mut transaction).await?;
    ensure_none_waits(&mut transaction).await?;
    index_builds::drop_all(&mut transaction, indexes::ALL).await?;
    let all = AssertSqlSafe(format!("truncate {}", TABLES.join(", ")));
    sqlx::query(all).execute(&mut *transaction).await?;
    let mut contacts = 0;
    for table in TABLES {
        let rows = copy(&mut transaction, file, table, table).await?;
        if table == "contacts" {
            contacts = rows;
        }
    }
    for table in ADDED_TO {
        add(&mut transaction, file, table).await?;
    }
    let newest_lookup = add_lookups(&mut transaction, file).await?;
    // Nobody sees a contact before its phone's suppressions count.
    suppressions::apply_to_all(&mut transaction).await?;
    sqlx::query(
        "update contacts c set consent = 'unknown', updated_at = now() from consent_withdrawals w
         where w.phone_e164 = c.phone_e164 and c.consent <> 'unknown'",
    )
    .execute(&mut *transaction)
    .await?;
    // Forward only: an id or number that was given since the backup stays with whom it was given to, in audits and logs
    // and in sessions that hold some in reserve.
    for (table, column) in [("contacts", "id"), ("imports", "number")] {
        let sequence = format!("pg_get_serial_sequence('{table}', '{column}')");
        let statement = format!(
            "select setval({sequence}, greatest(coalesce(max({column}), 0) + 1, nextval({sequence})), false) from {table}"
        );
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    let details = json!({"file": file.display().to_string(), "contacts": contacts, "suppressions": added});
    audit::record(&mut transaction, actor, "contacts_restored", None, &details).await?;
    transaction.commit().await?;

    index_builds::build(&pool, indexes::ALL, settings.index_builders).await?;
    index_builds::vacuum(&pool).await?;
    // The contacts are as the backup has them; what was answered since is in none of them.
    lookups::apply(&pool, StatusOf::LookedUpAfter(newest_lookup)).await?;
    views::refresh(&pool).await?;
    Ok(Restored { contacts, suppressions: added })
}

/// Fails where an import was accepted and is not done: its row would go, and with it all that is known of its file. None is
/// accepted from here on until the transaction ends.
async fn ensure_none_waits(conn: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("lock table imports in access exclusive mode").execute(&mut *conn).await?;
    let waiting: Vec<Uuid> = sqlx::query_scalar(
        "select i.id from imports i join jobs j on j.id = i.id where j.state in ('pending', 'running') order by 1 limit 5",
    )
    .fetch_all(conn)
    .await?;
    ensure!(waiting.is_empty(), "imports wait: {waiting:?}; cancel them, or wait for their end");
    Ok(())
}

/// Adds the rows of the backup's `table` that are not there; gives how many.
async fn add(conn: &mut PgConnection, file: &Path, table: &str) -> anyhow::Result<u64> {
    set_aside(conn, file, table).await?;
    add_set_aside(conn, table).await
}

/// Copies the rows of the backup's `table` into a temporary one, `restored`.
async fn set_aside(conn: &mut PgConnection, file: &Path, table: &str) -> anyhow::Result<()> {
    let create = format!("create temp table restored as select * from {table} with no data");
    sqlx::query(AssertSqlSafe(create)).execute(&mut *conn).await?;
    copy(conn, file, table, "restored").await.map(drop)
}

/// Adds those of the rows that were set aside that are not there; gives how many.
async fn add_set_aside(conn: &mut PgConnection, table: &str) -> anyhow::Result<u64> {
    let insert = format!("insert into {table} select * from restored on conflict do nothing");
    let added = sqlx::query(AssertSqlSafe(insert)).execute(&mut *conn).await?.rows_affected();
    sqlx::query("drop table restored").execute(conn).await?;
    Ok(added)
}

/// Adds the backup's look-ups; gives when the newest of them was made.
async fn add_lookups(conn: &mut PgConnection, file: &Path) -> anyhow::Result<Option<DateTime<Utc>>> {
    set_aside(conn, file, LOOKUPS).await?;
    let newest = sqlx::query_scalar("select max(looked_up_at) from restored").fetch_one(&mut *conn).await?;
    add_set_aside(conn, LOOKUPS).await?;
    Ok(newest)
}

/// Copies the rows of the backup's table `from` into `to`; gives how many.
async fn copy(conn: &mut PgConnection, file: &Path, from: &str, to: &str) -> anyhow::Result<u64> {
    let mut process = Command::new("pg_restore")
        .args(["--data-only", "--table", from, "--file", "-"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("pg_restore can't be run; is postgresql-client installed?")?;
    let output = process.stdout.take().context("pg_restore's output")?;
    let mut lines = BufReader::with_capacity(PIECE, output);
    let mut line = Vec::new();
    let mut rows = 0;
    while next(&mut lines, &mut line).await? {
        // COPY sms.contacts (id, phone_e164, …) FROM stdin;
        let Some(columns) = columns(&line) else { continue };
        let statement = format!("copy {to} ({columns}) from stdin");
        let mut copy = conn.copy_in_raw(&statement).await?;
        let mut piece = BytesMut::with_capacity(PIECE * 2);
        loop {
            ensure!(next(&mut lines, &mut line).await?, "{} ends in the midst of {from}", file.display());
            if line == b"\\.\n" {
                break;
            }
            rows += 1;
            piece.extend_from_slice(&line);
            if piece.len() >= PIECE {
                copy.send(piece.split().freeze()).await?;
            }
        }
        copy.send(piece.freeze()).await?;
        copy.finish().await.with_context(|| format!("restoring {from}"))?;
    }
    let status = process.wait().await?;
    ensure!(status.success(), "pg_restore failed ({status}); what it said is above");
    Ok(rows)
}

async fn next(
    lines: &mut BufReader<tokio::process::ChildStdout>,
    line: &mut Vec<u8>,
) -> anyhow::Result<bool> {
    line.clear();
    Ok(lines.read_until(b'\n', line).await? > 0)
}

/// The columns that a line of pg_restore's announces.
fn columns(line: &[u8]) -> Option<&str> {
    let line =
        std::str::from_utf8(line).ok()?.strip_prefix("COPY ")?.trim_end().strip_suffix(" FROM stdin;")?;
    line.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'))
}
