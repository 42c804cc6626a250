//! Figures, each with a floor measured in the same run where there is one: how fast a bare client of the same
//! server, or a bare reader of the same file, is on this machine at this moment. One JSON line a figure on
//! standard output, everything else on standard error.

mod catalog;
mod contacts;
mod dispatch;
mod etl;
mod figure;
mod gateway;
mod messaging;
mod numbers;
mod report;
mod segments;

use clap::{Parser, ValueEnum};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(name = "lote-bench", about = "Figures, with a floor of the same run")]
struct Arguments {
    /// What to measure
    #[arg(value_enum)]
    suite: Suite,
    /// These figures only
    #[arg(long)]
    only: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// The runtime, the outbox, SQS
    Messaging,
    /// Uploads of supplier catalogs
    Catalog,
    /// What the gateway adds, alone and beside live streams
    Gateway,
    /// Reports of SMS campaigns
    Report,
    /// Imports of contacts; ROWS says how many
    Contacts,
    /// Searches and previews among contacts; ROWS says how many
    Segments,
    /// Campaigns of SMS; ROWS says how many contacts there are
    Dispatch,
    /// Syncs and dashboards; ROWS, DOCUMENTS and ACCOUNTS say how large
    Etl,
}

/// What the AWS SDK must find, whoever started this and wherever: LocalStack takes any credentials, and nothing may
/// go looking for real ones.
fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let others = [("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")];
    stack::aws::CREDENTIALS.into_iter().chain(others)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if settings().all(|(name, value)| std::env::var_os(name).is_some_and(|set| set == value)) {
        return run(arguments);
    }
    // A process can't change its own environment safely: it becomes one that was started with it.
    let again = std::env::current_exe()
        .map(|program| Command::new(program).args(std::env::args_os().skip(1)).envs(settings()).exec());
    let error = again.unwrap_or_else(|error| error);
    eprintln!("could not start with the credentials of LocalStack: {error}");
    ExitCode::FAILURE
}

#[tokio::main]
async fn run(arguments: Arguments) -> ExitCode {
    if cfg!(debug_assertions) {
        eprintln!("this is no release build: the figures say nothing");
    }
    let wanted = |figure: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == figure);
    let measured = match arguments.suite {
        Suite::Messaging => messaging::measure(wanted).await,
        Suite::Catalog => catalog::measure(wanted).await,
        Suite::Gateway => gateway::measure(wanted).await,
        Suite::Report => report::measure(wanted).await,
        Suite::Contacts => contacts::measure(wanted).await,
        Suite::Segments => segments::measure(wanted).await,
        Suite::Dispatch => dispatch::measure(wanted).await,
        Suite::Etl => self::etl::measure(wanted).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("could not be measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}
