//! `api` takes wishes, `worker` keeps events and makes files, `migrate` brings the schema to this version, `doctor` looks for
//! what must not be.

use std::{path::PathBuf, process::ExitCode};

use chassis::{
    config::{DatabaseSettings, Env},
    db, shutdown, telemetry, tls,
};
use clap::{Parser, Subcommand};
use report::{
    config::{Config, ReportSettings, Role},
    doctor,
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
    /// Serve HTTP.
    Api,
    /// Keep what events tell, and make files.
    Worker,
    /// Bring the database schema to this version.
    Migrate,
    /// Load campaigns and messages from CSV files in the tables' layout; run again, it goes on where it was.
    Load {
        /// `ta_sms_maestro`: id, fecha, nombre, estado, descripcion.
        #[arg(long)]
        maestro: Option<PathBuf>,
        /// `ta_sms_detalle`: id, id_maestro, telefono, mensaje, fecha_envio, estado, error.
        #[arg(long)]
        detalle: Option<PathBuf>,
        /// Rejected rows a file after which it stops; they are in `<file>.rejected.csv`. With any, it exits with 2.
        #[arg(long, default_value_t = 1_000)]
        max_rejects: usize,
    },
    /// Check the invariants in the database; exits with 1 where one is broken.
    Doctor,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    tls::install();
    let _telemetry = telemetry::init(report::SERVICE)?;
    let shutdown = shutdown::token()?;
    match arguments.command {
        Command::Api => run_api(Config::from_env(Role::Api)?, shutdown).await?,
        Command::Worker => run_worker(Config::from_env(Role::Worker)?, shutdown).await?,
        Command::Migrate => {
            db::migrate::<Migrator>(&DatabaseSettings::from_process()?, report::SERVICE, &shutdown).await?
        }
        Command::Load { maestro, detalle, max_rejects } => {
            let mut env = Env::from_process();
            let (settings, reports) = (DatabaseSettings::read(&mut env), ReportSettings::read(&mut env));
            env.finish()?;
            let files = Files { maestro, detalle, zone: reports.zone, max_rejects };
            if load(&settings, &files, &shutdown).await? > 0 {
                return Ok(ExitCode::from(2));
            }
        }
        Command::Doctor => {
            let findings = doctor(&DatabaseSettings::from_process()?, &shutdown).await?;
            return Ok(chassis::doctor::tell(report::SERVICE, &findings));
        }
    }
    Ok(ExitCode::SUCCESS)
}
