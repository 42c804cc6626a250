//! `api` takes requests, `worker` keeps events and makes files, `load` reads campaigns from files, `migrate` brings the schema
//! to this version, `doctor` checks what must hold in database and bucket.

use std::{path::PathBuf, process::ExitCode};

use chassis::{
    cli::{self, Process},
    config::{DatabaseSettings, Env, S3Settings, from_process},
};
use clap::{Parser, Subcommand};
use report::{
    SERVICE,
    config::{Config, ReportSettings, Role},
    doctor::doctor,
    load::{Files, load},
    run_api, run_worker,
    storage::migrations::Migrator,
};

/// Campaign reports.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Subcommand)]
enum Command {
    #[command(flatten)]
    Common(cli::Command),
    /// Load campaigns and messages from CSV files in the tables' layout; run again, it goes on where it was.
    Load {
        /// `ta_sms_maestro`: id, fecha, nombre, estado, descripcion.
        #[arg(long)]
        maestro: Option<PathBuf>,
        /// `ta_sms_detalle`: id, id_maestro, telefono, mensaje, fecha_envio, estado, error.
        #[arg(long)]
        detalle: Option<PathBuf>,
        /// Rejected rows a file after which it stops; they are in `<file>.rejected.csv`. With any, it exits with 3.
        #[arg(long, default_value_t = 1_000)]
        max_rejects: usize,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    let role = match &arguments.command {
        Command::Common(command) => command.role(),
        Command::Load { .. } => "load",
    };
    let process = Process::start(SERVICE, role)?;
    let command = match arguments.command {
        Command::Common(command) => command,
        Command::Load { maestro, detalle, max_rejects } => {
            let read = |env: &mut Env| (DatabaseSettings::read(env), ReportSettings::read(env));
            let (settings, reports) = from_process(read)?;
            let files = Files { maestro, detalle, zone: reports.zone, max_rejects };
            let rejected = load(&settings, &files, &process.shutdown).await?;
            return Ok(if rejected > 0 { ExitCode::from(3) } else { ExitCode::SUCCESS });
        }
    };
    match command {
        cli::Command::Api => {
            run_api(from_process(|env| Config::read(env, Role::Api))?, process.shutdown.clone()).await?
        }
        cli::Command::Worker => {
            run_worker(from_process(|env| Config::read(env, Role::Worker))?, process.shutdown.clone()).await?
        }
        cli::Command::Migrate => process.migrate::<Migrator>(SERVICE).await?,
        cli::Command::Doctor => {
            let settings = from_process(S3Settings::read)?;
            return process.doctor(SERVICE, async |pool| doctor(pool, &settings).await).await;
        }
        cli::Command::CheckConfig(check) => {
            return Ok(check.run(SERVICE, |env, role| match role {
                Some(role) => drop(Config::read(env, role)),
                None => drop(DatabaseSettings::read(env)),
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
