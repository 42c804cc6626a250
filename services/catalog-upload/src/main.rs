//! `api` takes uploads, `worker` processes them, `migrate` brings the schema to this version, `doctor` checks what must
//! hold in database and bucket.

use std::process::ExitCode;

use catalog_upload::{
    SERVICE,
    config::{Config, Role},
    doctor::doctor,
    run_api, run_worker,
    storage::migrations::Migrator,
};
use chassis::{
    cli::{Command, Process},
    config::{DatabaseSettings, S3Settings, from_process},
};
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
    let process = Process::start(SERVICE, command.role())?;
    match command {
        Command::Api => {
            run_api(from_process(|env| Config::read(env, Role::Api))?, process.shutdown.clone()).await?
        }
        Command::Worker => {
            run_worker(from_process(|env| Config::read(env, Role::Worker))?, process.shutdown.clone()).await?
        }
        Command::Migrate => process.migrate::<Migrator>(SERVICE).await?,
        Command::Doctor => {
            let settings = from_process(S3Settings::read)?;
            return process.doctor(SERVICE, async |pool| doctor(pool, &settings).await).await;
        }
        Command::CheckConfig(check) => {
            return Ok(check.run(SERVICE, |env, role| match role {
                Some(role) => drop(Config::read(env, role)),
                None => drop(DatabaseSettings::read(env)),
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
