use std::{path::PathBuf, time::Duration};

pub use chassis::config::Role;
use chassis::config::{Env, ServiceSettings};

use crate::{SERVICE, files::Limits};

/// The service's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service has.
    pub common: ServiceSettings,
    pub imports: ImportSettings,
}

/// How imports are processed.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// What a file may be.
    pub limits: Limits,
    /// Rows a transaction.
    pub batch_rows: usize,
    /// Imports that one worker process works on at once.
    pub concurrency: usize,
    /// How long a lease lasts without a sign of life. A dead worker's import waits so long for the next.
    pub lease: Duration,
    /// How long one delivery may work on an import.
    pub deadline: Duration,
    /// Claims without progress before an import fails.
    pub max_attempts: i32,
    /// How long files, reports and ledgers of imports that ended are kept.
    pub retention: Duration,
    /// Where files are spooled while they are read. Each takes its own size, at most the limit's.
    pub spool: PathBuf,
}

impl Config {
    /// What each part documents. What is missing or wrong, `env` says.
    pub fn read(env: &mut Env, role: Role) -> Self {
        // Clients know the API's.
        let port = match role {
            Role::Api => 3001,
            Role::Worker => 3011,
        };
        Self { common: ServiceSettings::read(env, SERVICE, port), imports: ImportSettings::read(env) }
    }
}

impl ImportSettings {
    /// `UPLOAD_MAX_BYTES` (100 MB), `IMPORT_MAX_ROWS` (1,048,576), `IMPORT_BATCH_ROWS` (10,000), `IMPORT_CONCURRENCY` (2),
    /// `IMPORT_LEASE_SECONDS` (30), `IMPORT_DEADLINE_SECONDS` (3,600), `IMPORT_MAX_ATTEMPTS` (10), `IMPORT_RETENTION_DAYS` (90),
    /// `IMPORT_MAX_STRINGS_BYTES` (512 MB), `SPOOL_DIR` (the system's).
    pub fn read(env: &mut Env) -> Self {
        let standard = Limits::default();
        let limits = Limits {
            max_bytes: env.default("UPLOAD_MAX_BYTES", standard.max_bytes, "a number of bytes"),
            max_rows: env.default("IMPORT_MAX_ROWS", standard.max_rows, "a number of rows"),
            max_shared_strings_bytes: env.default(
                "IMPORT_MAX_STRINGS_BYTES",
                standard.max_shared_strings_bytes,
                "a number of bytes",
            ),
            ..standard
        };
        let batch_rows: usize = env.default("IMPORT_BATCH_ROWS", 10_000, "a number of rows from 1 to 50000");
        if !(1..=50_000).contains(&batch_rows) {
            env.reject("IMPORT_BATCH_ROWS", format!("is {batch_rows}, expected 1 to 50000"));
        }
        let days: u32 = env.default("IMPORT_RETENTION_DAYS", 90, "a number of days from 1");
        if days == 0 {
            env.reject("IMPORT_RETENTION_DAYS", "is 0, expected 1 or more");
        }
        Self {
            limits,
            batch_rows,
            concurrency: env.default("IMPORT_CONCURRENCY", 2, "a number of imports"),
            lease: env.seconds("IMPORT_LEASE_SECONDS", Duration::from_secs(30)),
            deadline: env.seconds("IMPORT_DEADLINE_SECONDS", Duration::from_secs(3_600)),
            max_attempts: env.default("IMPORT_MAX_ATTEMPTS", 10, "a number of attempts"),
            retention: Duration::from_secs(u64::from(days) * 24 * 60 * 60),
            spool: env.default("SPOOL_DIR", std::env::temp_dir(), "a folder"),
        }
    }
}
