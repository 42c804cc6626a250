//! `api` takes requests, `worker` runs syncs, `migrate` brings the schema and the sales database to this version,
//! `doctor` looks for what must not be.

use std::process::ExitCode;

use chassis::{shutdown, telemetry, tls};
use clap::{Parser, Subcommand};
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

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Serve HTTP.
    Api,
    /// Run syncs, and begin those that are scheduled.
    Worker,
    /// Bring the schema, and the databases that are written to, to this version.
    Migrate,
    /// Check the invariants in the databases; exits with 1 where one is broken.
    Doctor,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    tls::install();
    let _telemetry = telemetry::init(SERVICE)?;
    let shutdown = shutdown::token()?;
    match arguments.command {
        Command::Api => run_api(Config::from_env(Role::Api)?, shutdown).await?,
        Command::Worker => run_worker(Config::from_env(Role::Worker)?, shutdown).await?,
        Command::Migrate => migrate(&Config::tools_from_env()?, &shutdown).await?,
        Command::Doctor => {
            let findings = doctor(&Config::tools_from_env()?, &shutdown).await?;
            return Ok(chassis::doctor::tell(SERVICE, &findings));
        }
    }
    Ok(ExitCode::SUCCESS)
}
