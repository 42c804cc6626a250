//! `api` takes requests, `worker` runs syncs, `migrate` brings the schema and the sales database to this version,
//! `doctor` checks what must hold in the databases.

use std::process::ExitCode;

use chassis::{
    cli::{Command, Process},
    config::from_process,
    doctor::report,
};
use clap::Parser;
use etl::{
    SERVICE,
    config::{Config, Role, Tools},
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
    let process = Process::start(SERVICE, command.role())?;
    match command {
        Command::Api => {
            run_api(from_process(|env| Config::read(env, Role::Api))?, process.shutdown.clone()).await?
        }
        Command::Worker => {
            run_worker(from_process(|env| Config::read(env, Role::Worker))?, process.shutdown.clone()).await?
        }
        Command::Migrate => migrate(&from_process(Tools::read)?, &process.shutdown).await?,
        Command::Doctor => {
            let findings = doctor(&from_process(Tools::read)?, &process.shutdown).await?;
            return Ok(report(SERVICE, &findings));
        }
        Command::CheckConfig(check) => {
            return Ok(check.run(SERVICE, |env, role| match role {
                Some(role) => drop(Config::read(env, role)),
                None => drop(Tools::read(env)),
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
