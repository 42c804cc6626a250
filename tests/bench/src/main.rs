//! Figures, each with a floor measured in the same run where there is one: how fast a bare client of the same
//! server, or a bare reader of the same file, is on this machine at this moment. One JSON line a figure on
//! standard output, everything else on standard error.

mod catalog;
mod contacts;
mod figure;
mod messaging;
mod numbers;
mod report;
mod segments;

use clap::{Parser, ValueEnum};
use std::process::ExitCode;

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
    /// Reports of SMS campaigns
    Report,
    /// Imports of contacts; ROWS says how many
    Contacts,
    /// Searches and previews among contacts; ROWS says how many
    Segments,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("this is no release build: the figures say nothing");
    }
    let wanted = |figure: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == figure);
    let measured = match arguments.suite {
        Suite::Messaging => messaging::measure(wanted).await,
        Suite::Catalog => catalog::measure(wanted).await,
        Suite::Report => report::measure(wanted).await,
        Suite::Contacts => contacts::measure(wanted).await,
        Suite::Segments => segments::measure(wanted).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("could not be measured: {error:#}");
            ExitCode::FAILURE
        }
    }
}
