//! `sms-dispatch contacts backup FILE`: the schema in pg_dump's custom format, with a checksum beside it.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use chassis::{config::DatabaseSettings, db};
use sea_orm::sqlx;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempPath;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::storage::audit;

/// What is not of contacts, as pg_dump's patterns.
const OF_CAMPAIGNS: [&str; 9] = [
    "audience_*",
    "campaign*",
    "messages*",
    "slices",
    "phone_sends",
    "sms_*",
    "provider_reports",
    "inbound_messages",
    "help_answers",
];

/// Dumps the schema to `file`, and its SHA-256 to `file.sha256`. A backup that is half done never has the file's name.
///
/// # Errors
/// A file of that name, unless it may be overwritten; no pg_dump, a server that it can't dump, a disk that is full.
pub async fn run(
    database: &DatabaseSettings,
    file: &Path,
    overwrite: bool,
    actor: &str,
    shutdown: &CancellationToken,
) -> anyhow::Result<String> {
    ensure!(
        overwrite || !file.exists(),
        "{} is there already; with --overwrite the new backup takes its place",
        file.display()
    );
    let pool = db::connect(database, "sms-dispatch backup", shutdown).await?.pool;
    let schema: String = sqlx::query_scalar("select current_schema()").fetch_one(&pool).await?;
    // Everybody's names and phones: for its owner alone from the first byte on, and gone where it does not become the backup.
    let partial = TempPath::try_from_path(beside(file, "partial"))?;
    if partial.exists() {
        std::fs::remove_file(&partial)?;
    }
    File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
    let status = Command::new("pg_dump")
        .args(["--format=custom", "--no-owner", "--no-privileges", "--schema"])
        .arg(format!("\"{schema}\""))
        // A restore leaves campaigns alone, and their ledger is larger than all contacts.
        .args(OF_CAMPAIGNS.map(|table| format!("--exclude-table-data=\"{schema}\".{table}")))
        .arg("--file")
        .arg(&partial)
        .envs(connection(database)?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::select! {
        status = status => status.context("pg_dump can't be run; is postgresql-client installed?")?,
        () = shutdown.cancelled() => anyhow::bail!("told to stop; {} is not complete", partial.display()),
    };
    ensure!(status.success(), "pg_dump failed ({status}); what it said is above");
    File::open(&partial)?.sync_all()?;
    let sum = checksum(&partial)?;
    partial.persist(file).with_context(|| format!("{} can't be written", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    std::fs::write(beside(file, "sha256"), format!("{sum}  {name}\n"))?;
    let details = json!({"file": file.display().to_string(), "sha256": sum});
    audit::record(&mut *pool.acquire().await?, actor, "contacts_backed_up", None, &details).await?;
    Ok(sum)
}

/// `file.suffix`.
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// A file's SHA-256 in hexadecimal digits.
///
/// # Errors
/// A file that can't be read.
pub fn checksum(file: &Path) -> anyhow::Result<String> {
    let said = || format!("{} can't be read", file.display());
    let mut reader = File::open(file).with_context(said)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hash.update(&buffer[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(said),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How PostgreSQL's own programs find the server: by their environment, for everybody can read a command line.
fn connection(database: &DatabaseSettings) -> anyhow::Result<Vec<(&'static str, String)>> {
    let url: Url = database.url.expose().parse().map_err(|_| anyhow::anyhow!("DATABASE_URL is no URL"))?;
    let mut variables = vec![
        ("PGHOST", url.host_str().unwrap_or("localhost").to_owned()),
        ("PGPORT", url.port().unwrap_or(5432).to_string()),
        ("PGUSER", decoded(url.username())),
        ("PGDATABASE", decoded(url.path().trim_start_matches('/'))),
    ];
    variables.extend(url.password().map(|password| ("PGPASSWORD", decoded(password))));
    let mode = url.query_pairs().find(|(name, _)| name == "sslmode").map(|(_, mode)| mode.into_owned());
    variables.extend(mode.map(|mode| ("PGSSLMODE", mode)));
    Ok(variables)
}

/// Without the URL's escapes.
fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, text)| text.into_owned())
}
