//! `api` takes uploads, `worker` works them off, `migrate` brings the schema to this version, `doctor` looks for
//! what must not be.

use std::process::ExitCode;

use catalog_upload::{
    config::{Config, Role},
    doctor, run_api, run_worker,
    storage::migrations::Migrator,
};
use chassis::{config::DatabaseSettings, db, shutdown, telemetry, tls};
use clap::{Parser, Subcommand};

/// Supplier catalogs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Serve HTTP.
    Api,
    /// Work imports off.
    Worker,
    /// Bring the database schema to this version.
    Migrate,
    /// Check the invariants in the database; exits with 1 where one is broken.
    Doctor,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    tls::install();
    let _telemetry = telemetry::init(catalog_upload::SERVICE)?;
    let shutdown = shutdown::token()?;
    match arguments.command {
        Command::Api => run_api(Config::from_env(Role::Api)?, shutdown).await?,
        Command::Worker => run_worker(Config::from_env(Role::Worker)?, shutdown).await?,
        Command::Migrate => {
            db::migrate::<Migrator>(&DatabaseSettings::from_process()?, catalog_upload::SERVICE, &shutdown)
                .await?
        }
        Command::Doctor => {
            let findings = doctor(&DatabaseSettings::from_process()?, &shutdown).await?;
            return Ok(chassis::doctor::tell(catalog_upload::SERVICE, &findings));
        }
    }
    Ok(ExitCode::SUCCESS)
}
