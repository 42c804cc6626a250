//! Kills servers and services in the middle of their work, and counts what was lost and what happened twice.
//! One JSON line a case on standard output, everything else on standard error.

mod arena;
mod case;
mod points;
mod round;
mod tasks;

use anyhow::{Context, Result, bail};
use case::Case;
use clap::{Parser, ValueEnum};
use round::Tally;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "lote-chaos", about = "Kills things and counts what was lost")]
struct Arguments {
    /// What to break
    #[arg(value_enum)]
    suite: Suite,
    /// Rounds a case, each proven to have struck in the middle of work
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// This case only
    #[arg(long, value_enum)]
    case: Option<Case>,
    /// The same seed gives the same workbooks and the same moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// Uploads of supplier catalogs
    Catalog,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Suite::Catalog = arguments.suite;
    let cases = arguments.case.map_or_else(|| Case::value_variants().to_vec(), |case| vec![case]);
    let mut unmeasured = 0;
    for case in cases {
        let line = measure(case, &arguments)
            .await
            .and_then(|tally| serde_json::to_string(&Line::new(case, tally)).context("a line of results"));
        match line {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{}: could not be measured: {error:#}", case.name());
                unmeasured += 1;
            }
        }
    }
    if unmeasured == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(case: Case, arguments: &Arguments) -> Result<Tally> {
    eprintln!("{}: starting servers and services", case.name());
    let mut arena = arena::Arena::start(case).await?;
    let mut tally = match case {
        Case::Failpoints => points::walk(&mut arena, arguments.seed).await?,
        Case::UndoKill | Case::ApplyKill | Case::CancelRace => {
            tasks::rounds(&mut arena, arguments.rounds, arguments.seed).await?
        }
        _ => round::rounds(&mut arena, arguments.rounds, arguments.seed).await?,
    };
    let late = arena.late_events(&tally.tasks).await?;
    tally.duplicated += late;
    let findings = arena.findings().await?;
    for finding in &findings {
        eprintln!("{}: doctor: {finding}", case.name());
    }
    tally.findings = findings.len();
    if tally.rounds == 0 {
        bail!("no round struck");
    }
    let clean = tally.lost == 0 && tally.duplicated == 0 && findings.is_empty();
    arena.end(clean).await.context("remove the servers")?;
    Ok(tally)
}

/// A case's results, in the order in which they are printed.
#[derive(Serialize)]
struct Line {
    chaos: &'static str,
    case: &'static str,
    rounds: u32,
    struck: u32,
    accepted: usize,
    r#final: usize,
    lost: usize,
    duplicated: usize,
    doctor: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_gone: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_struck: Option<Vec<&'static str>>,
}

impl Line {
    fn new(case: Case, tally: Tally) -> Self {
        Self {
            chaos: "catalog",
            case: case.name(),
            rounds: tally.rounds,
            struck: tally.struck,
            accepted: tally.accepted,
            r#final: tally.finished,
            lost: tally.lost,
            duplicated: tally.duplicated,
            doctor: tally.findings,
            object_gone: (case == Case::LocalstackWipe).then_some(tally.object_gone),
            not_struck: (case == Case::Failpoints).then_some(tally.not_struck),
        }
    }
}
