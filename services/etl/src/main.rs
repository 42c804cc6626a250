//! `api` takes requests, `worker` runs syncs, `migrate` brings the schema and the sales database to this version,
//! `doctor` checks what must hold in the databases.

use std::process::ExitCode;

use chassis::{
    cli::{Command, Process},
    doctor::report,
};
use clap::Parser;
use etl::{
    SERVICE,
    config::{Config, Role},
    doctor, migrate, run_api, run_worker,
};

/// Syncs of sources into sales and collections data.
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
        Command::Migrate => migrate(&Config::tools_from_env()?, &process.shutdown).await?,
        Command::Doctor => {
            let findings = doctor(&Config::tools_from_env()?, &process.shutdown).await?;
            return Ok(report(SERVICE, &findings));
        }
    }
    Ok(ExitCode::SUCCESS)
}
