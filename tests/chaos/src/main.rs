//! Kills servers and services in the middle of their work, and counts what was lost and what happened twice.
//! One JSON line a case on standard output, everything else on standard error.

mod aftermath;
mod arena;
mod armed;
mod case;
mod contacts;
mod dispatch;
mod etl;
mod messaging;
mod points;
mod reports;
mod round;
mod tasks;

use anyhow::{Context, Result, bail};
use case::Case;
use clap::{Parser, ValueEnum};
use round::Tally;
use serde::Serialize;
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

#[derive(Parser)]
#[command(name = "lote-chaos", about = "Kills things and counts what was lost")]
struct Arguments {
    /// What to break
    #[arg(value_enum)]
    suite: Suite,
    /// Rounds a case, each proven to have struck in the middle of work: 20, 10 of reports and campaigns or 30 of syncs, unless told
    #[arg(long)]
    rounds: Option<u32>,
    /// This case only
    #[arg(long)]
    case: Option<String>,
    /// The same seed gives the same workbooks and the same moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// Uploads of supplier catalogs
    Catalog,
    /// Reports of SMS campaigns
    Report,
    /// Imports of contacts
    Contacts,
    /// Outbox, broker, consumers and dead letters
    Messaging,
    /// Syncs of sales
    Etl,
    /// Campaigns of SMS
    Dispatch,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_where_asked();
    let unmeasured = match arguments.suite {
        Suite::Catalog => {
            let arguments = &arguments;
            each(arguments, |case| async move {
                measure(case, arguments).await.map(|tally| Line::new(case, tally))
            })
            .await
        }
        Suite::Report => {
            let (rounds, seed) = (arguments.rounds.unwrap_or(10), arguments.seed);
            each(&arguments, |case| reports::measure(case, rounds, seed)).await
        }
        Suite::Contacts => {
            let (rounds, seed) = (arguments.rounds.unwrap_or(20), arguments.seed);
            each(&arguments, |case| contacts::measure(case, rounds, seed)).await
        }
        Suite::Messaging => {
            let (rounds, seed) = (arguments.rounds.unwrap_or(20), arguments.seed);
            each(&arguments, |case| messaging::measure(case, rounds, seed)).await
        }
        Suite::Etl => {
            let (rounds, seed) = (arguments.rounds.unwrap_or(30), arguments.seed);
            each(&arguments, |case| etl::measure(case, rounds, seed)).await
        }
        Suite::Dispatch => {
            let (rounds, seed) = (arguments.rounds.unwrap_or(10), arguments.seed);
            each(&arguments, |case| dispatch::measure(case, rounds, seed)).await
        }
    };
    if unmeasured == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What runs in this process is silent unless `RUST_LOG` says otherwise: that it has trouble is what is wanted.
fn log_where_asked() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).from_env_lossy();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Measures the wanted cases and prints a line each. How many could not be measured.
async fn each<C: ValueEnum, L: Serialize, F: Future<Output = Result<L>>>(
    arguments: &Arguments,
    measure: impl Fn(C) -> F,
) -> usize {
    let name =
        |case: &C| case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let all = C::value_variants().iter();
    let cases = all.filter(|case| arguments.case.as_ref().is_none_or(|wanted| *wanted == name(case)));
    let (mut unmeasured, mut found) = (0, false);
    for case in cases {
        found = true;
        let line = measure(case.clone()).await;
        let line = line.and_then(|line| serde_json::to_string(&line).context("a line of results"));
        match line {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{}: could not be measured: {error:#}", name(case));
                unmeasured += 1;
            }
        }
    }
    if !found {
        eprintln!("no such case: {:?}", arguments.case);
    }
    unmeasured + usize::from(!found)
}

async fn measure(case: Case, arguments: &Arguments) -> Result<Tally> {
    let rounds = arguments.rounds.unwrap_or(20);
    eprintln!("{}: starting servers and services", case.name());
    let mut arena = arena::Arena::start(case).await?;
    let mut tally = match case {
        Case::Failpoints => points::walk(&mut arena, arguments.seed).await?,
        Case::UndoKill | Case::ApplyKill | Case::CancelRace => {
            tasks::rounds(&mut arena, rounds, arguments.seed).await?
        }
        _ => round::rounds(&mut arena, rounds, arguments.seed).await?,
    };
    let late = arena.late_events(&tally.tasks).await?;
    tally.duplicated += late;
    let findings = arena.findings().await?;
    tally.findings = aftermath::tell(case.name(), &findings);
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
