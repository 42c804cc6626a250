//! `api` takes uploads, `worker` processes them, `migrate` brings the schema to this version, `doctor` checks what must
//! hold in the database.

use std::process::ExitCode;

use catalog_upload::{
    SERVICE,
    config::{Config, Role},
    run_api, run_worker,
    storage::{doctor::doctor, migrations::Migrator},
};
use chassis::cli::{Command, Process};
use clap::Parser;

/// Supplier catalogs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let Arguments { command } = Arguments::parse();
    let process = Process::start(SERVICE)?;
    match command {
        Command::Api => run_api(Config::from_env(Role::Api)?, process.shutdown.clone()).await?,
        Command::Worker => run_worker(Config::from_env(Role::Worker)?, process.shutdown.clone()).await?,
        Command::Migrate => process.migrate::<Migrator>(SERVICE).await?,
        Command::Doctor => return process.doctor(SERVICE, doctor).await,
    }
    Ok(ExitCode::SUCCESS)
}
