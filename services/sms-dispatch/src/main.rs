//! `api` answers requests, `worker` works in the background, `import` and `contacts` work on the contacts themselves, `migrate`
//! brings the schema to this version, `doctor` looks for what must not be.

use std::{path::PathBuf, process::ExitCode};

use chassis::{
    cli::{self as common, Process},
    config::{DatabaseSettings, from_process},
};
use clap::{Parser, Subcommand};
use sms_dispatch::{
    SERVICE, cli,
    config::{self, Config, Role},
    doctor,
    domain::source::Mapping,
    run_api, run_worker,
    storage::migrations::Migrator,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Contacts, segments of them, and SMS campaigns.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Subcommand)]
enum Command {
    #[command(flatten)]
    Common(common::Command),
    /// Import contacts from numeros.db or a CSV file on this machine; run again, it goes on where it was.
    Import {
        file: PathBuf,
        /// On what grounds these people may be written to; without it campaigns of marketing leave them out.
        #[arg(long)]
        consent_basis: Option<String>,
        /// Only count what would become of the rows.
        #[arg(long)]
        dry_run: bool,
        /// Only the first rows.
        #[arg(long)]
        limit: Option<u64>,
        /// Rows a transaction.
        #[arg(long, value_parser = clap::value_parser!(i64).range(1_000..=1_000_000))]
        batch_size: Option<i64>,
        /// Batches at once.
        #[arg(long)]
        workers: Option<usize>,
        /// Which column of a CSV file is what, as phone=Celular; repeat it.
        #[arg(long = "column", value_parser = column)]
        columns: Vec<(String, String)>,
    },
    /// The regulator's numbering plan, which tells mobile from fixed.
    NumberingPlan {
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// All contacts: back them up, restore them, take an import out.
    Contacts {
        #[command(subcommand)]
        command: ContactsCommand,
    },
}

#[derive(Clone, Subcommand)]
enum PlanCommand {
    /// Put the plan of a file (IFT, pnn_*.csv) in the place of the one there is.
    Import { file: PathBuf },
}

#[derive(Clone, Subcommand)]
enum ContactsCommand {
    /// Dump the schema to a file, and its checksum to FILE.sha256.
    Backup {
        file: PathBuf,
        /// Whether the backup may take the place of a file of that name.
        #[arg(long)]
        overwrite: bool,
    },
    /// Put a backup's contacts in the place of those there are; who opted out stays out.
    Restore { file: PathBuf },
    /// Take out what an import brought in; who opted out stays out.
    Rollback { import_id: Uuid },
}

fn column(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(field, column)| (field.to_owned(), column.to_owned()));
    pair.ok_or_else(|| format!("{text:?} is no FIELD=COLUMN, as phone=Celular"))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    let role = match &arguments.command {
        Command::Common(command) => command.role(),
        Command::Import { .. } => "import",
        Command::NumberingPlan { .. } => "numbering-plan",
        Command::Contacts { .. } => "contacts",
    };
    let process = Process::start(SERVICE, role)?;
    let shutdown = process.shutdown.clone();
    match arguments.command {
        Command::Common(command) => return run(command, &process).await,
        Command::Import { file, consent_basis, dry_run, limit, batch_size, workers, columns } => {
            let (database, settings) = config::command_line()?;
            let mapping = Mapping(columns.into_iter().collect());
            let actor = actor();
            let consent = consent_basis;
            let request = cli::import::ImportRequest {
                file,
                consent,
                dry_run,
                limit,
                batch_size,
                workers,
                mapping,
                actor,
            };
            let import = cli::import::run(&database, settings, &request, &shutdown).await?;
            eprintln!("import {}", import.id);
            println!("{}", serde_json::to_string_pretty(&import.report)?);
        }
        Command::NumberingPlan { command: PlanCommand::Import { file } } => {
            let done =
                cli::numbering_plan::run(&DatabaseSettings::from_process()?, &file, &actor(), &shutdown)
                    .await?;
            println!("{} ranges; {} contacts brought up to date", done.ranges, done.contacts);
        }
        Command::Contacts { command } => contacts(command, &shutdown).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What every service has.
async fn run(command: common::Command, process: &Process) -> anyhow::Result<ExitCode> {
    let shutdown = process.shutdown.clone();
    match command {
        common::Command::Api => run_api(from_process(|env| Config::read(env, Role::Api))?, shutdown).await?,
        common::Command::Worker => {
            run_worker(from_process(|env| Config::read(env, Role::Worker))?, shutdown).await?
        }
        common::Command::Migrate => process.migrate::<Migrator>(SERVICE).await?,
        common::Command::Doctor => {
            let settings = from_process(doctor::Settings::read)?;
            return process.doctor(SERVICE, async |pool| doctor::doctor(pool, &settings).await).await;
        }
        common::Command::CheckConfig(check) => {
            return Ok(check.run(SERVICE, |env, role| match role {
                Some(role) => drop(Config::read(env, role)),
                None => drop(DatabaseSettings::read(env)),
            }));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn contacts(command: ContactsCommand, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let (database, settings) = config::command_line()?;
    match command {
        ContactsCommand::Backup { file, overwrite } => {
            let sum = cli::backup::run(&database, &file, overwrite, &actor(), shutdown).await?;
            println!("{}: SHA-256 {sum}", file.display());
        }
        ContactsCommand::Restore { file } => {
            let done = cli::restore::run(&database, &settings, &file, &actor(), shutdown).await?;
            println!("{} contacts restored, {} suppressions added", done.contacts, done.suppressions);
        }
        ContactsCommand::Rollback { import_id } => {
            cli::rollback::run(&database, settings, import_id, &actor(), shutdown).await?;
            println!("import {import_id} rolled back");
        }
    }
    Ok(())
}

/// Who works at this machine, for the audit.
fn actor() -> String {
    format!("cli:{}", std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned()))
}
