//! `import` brings contacts in, `migrate` brings the schema to this version.

use std::{path::PathBuf, process::ExitCode};

use chassis::{
    config::{DatabaseSettings, Env},
    db, shutdown, telemetry, tls,
};
use clap::{Parser, Subcommand};
use sms_dispatch::{
    config,
    import::{command, csv::Mapping},
    storage::migrations::Migrator,
};

/// Contacts, segments of them, and SMS campaigns.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Subcommand)]
enum Command {
    /// Bring the database schema to this version.
    Migrate,
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
}

fn column(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(field, column)| (field.to_owned(), column.to_owned()));
    pair.ok_or_else(|| format!("{text:?} is no FIELD=COLUMN, as phone=Celular"))
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let _failpoints = failpoints::arm();
    let arguments = Arguments::parse();
    tls::install();
    let _telemetry = telemetry::init(sms_dispatch::SERVICE)?;
    let shutdown = shutdown::token()?;
    match arguments.command {
        Command::Migrate => db::migrate::<Migrator>(&database()?, sms_dispatch::SERVICE, &shutdown).await?,
        Command::Import { file, consent_basis, dry_run, limit, batch_size, workers, columns } => {
            let (database, settings) = config::command_line()?;
            let wish = command::Wish {
                file,
                consent: consent_basis,
                dry_run,
                limit,
                batch_size,
                workers,
                mapping: Mapping(columns.into_iter().collect()),
                actor: format!("cli:{}", std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned())),
            };
            let import = command::run(&database, settings, &wish, &shutdown).await?;
            println!("{}", serde_json::to_string_pretty(&import.report)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn database() -> anyhow::Result<DatabaseSettings> {
    let mut env = Env::from_process();
    let settings = DatabaseSettings::read(&mut env);
    env.finish()?;
    Ok(settings)
}
