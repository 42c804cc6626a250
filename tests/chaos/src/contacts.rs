//! Imports of contacts while things are killed: the same command is run again until it ends, and the contacts are those of
//! an import that nobody disturbed.

mod points;
mod scene;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scene::{Scene, Way};
use serde::Serialize;
use stack::process::Running;
use std::time::Duration;

/// How long an import may take to end once it is left alone.
const FINAL: Duration = Duration::from_secs(120);
/// How often an import is run again before it counts as lost.
const RUNS: u32 = 8;

/// What is broken, each on a server of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to an import into an empty table, while rows are loaded.
    ImportKill,
    /// SIGKILL to an import into an empty table, while indexes are built.
    IndexKill,
    /// PostgreSQL stops as `-m immediate` does, under imports of both ways.
    PostgresKill,
    /// SIGKILL to an import into a full table, while rows merge.
    MergeKill,
    /// Each failpoint that an import passes, once on each way.
    Failpoints,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::ImportKill => "import_kill",
            Self::IndexKill => "index_kill",
            Self::PostgresKill => "postgres_kill",
            Self::MergeKill => "merge_kill",
            Self::Failpoints => "failpoints",
        }
    }

    fn ways(self) -> &'static [Way] {
        match self {
            Self::ImportKill | Self::IndexKill => &[Way::Fast],
            Self::MergeKill => &[Way::Merge],
            Self::PostgresKill | Self::Failpoints => &[Way::Fast, Way::Merge],
        }
    }

    /// Steps over which moments are drawn, beginning where [`Case::has_come`] says so.
    fn steps(self) -> &'static [&'static str] {
        match self {
            Self::ImportKill => &["load", "merge"],
            Self::IndexKill => &["index", "merge"],
            Self::MergeKill => &["merge"],
            Self::PostgresKill | Self::Failpoints => &["load", "index", "merge", "vacuum", "settle"],
        }
    }

    /// Whether the work that is meant has begun.
    fn has_come(self) -> &'static str {
        match self {
            Self::ImportKill | Self::PostgresKill | Self::Failpoints => {
                "select exists (select from imports where mode is not null and source_rows is null)"
            }
            Self::IndexKill => "select exists (select from jobs where checkpoint ->> 'phase' = 'index')",
            Self::MergeKill => {
                "select exists (select from imports where timings ? 'load' and source_rows is null)"
            }
        }
    }

    /// Whether it is under way.
    fn is_under_way(self) -> &'static str {
        match self {
            Self::ImportKill => {
                "select exists (select from imports i join jobs j using (id) where i.source_rows is null
                     and j.state = 'running' and j.checkpoint ->> 'phase' in ('load', 'merge'))"
            }
            Self::IndexKill => {
                "select exists (select from pg_stat_activity
                     where usename = current_user and state = 'active' and query ~ '^create (unique )?index')"
            }
            Self::MergeKill => {
                "select exists (select from imports i join jobs j using (id) where i.source_rows is null
                     and j.state = 'running' and i.timings ? 'load' and not i.timings ? 'merge')"
            }
            Self::PostgresKill | Self::Failpoints => {
                "select exists (select from imports i join jobs j using (id)
                     where i.source_rows is null and j.state = 'running')"
            }
        }
    }
}

/// A case's results, in the order in which they are printed.
#[derive(Default, Serialize)]
pub struct Line {
    chaos: &'static str,
    case: &'static str,
    rounds: u32,
    struck: u32,
    /// Times that something was killed, in rounds that count.
    strikes: u32,
    /// Imports.
    accepted: u32,
    /// Those whose contacts have the checksum of an undisturbed import.
    r#final: u32,
    lost: i64,
    duplicated: i64,
    doctor: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_struck: Vec<String>,
}

/// Strikes at random moments until `rounds` of them were in the middle of the work that is meant.
pub async fn measure(case: Case, rounds: u32, seed: u64) -> Result<Line> {
    let mut scene = Scene::start(case.name(), seed, case.ways()).await?;
    let mut line = Line { chaos: "contacts", case: case.name(), ..Line::default() };
    let measured = match case {
        Case::Failpoints => points::walk(&scene, &mut line).await,
        _ => strikes(&mut scene, case, rounds, seed, &mut line).await,
    };
    let clean = measured.is_ok() && line.lost + line.duplicated == 0 && line.doctor == 0;
    scene.end(clean).await.context("stop PostgreSQL")?;
    measured.map(|()| line)
}

async fn strikes(scene: &mut Scene, case: Case, rounds: u32, seed: u64, line: &mut Line) -> Result<()> {
    let mut tried = 0;
    while line.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", line.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let way = case.ways()[tried as usize % case.ways().len()];
        scene.reset(way).await?;
        let mut strikes = 0;
        let mut import = scene.import("")?;
        // Now and then what goes on is struck again.
        while strikes < 3 {
            let came = scene.wait_for(case.has_come(), &import).await?;
            let span = scene.span(way, case.steps());
            tokio::time::sleep(span.mul_f64(random.random_range(0.0..1.0))).await;
            if !(came && import.is_running() && scene.ask(case.is_under_way()).await?) {
                break;
            }
            strikes += 1;
            if case == Case::PostgresKill {
                scene.postgres.kill().await?;
                tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
                scene.postgres.start().await?;
            } else {
                import.kill().await?;
                import = scene.import("")?;
            }
            if random.random_bool(0.7) {
                break;
            }
        }
        let ended = end(scene, import).await?;
        line.accepted += 1;
        judge(scene, way, ended, line).await?;
        line.struck += u32::from(strikes > 0);
        line.strikes += strikes;
        eprintln!(
            "{} {tried}: {} ({strikes}), lost {}, duplicated {}, doctor {}",
            case.name(),
            if strikes > 0 { "struck in mid-work" } else { "missed: once more" },
            line.lost,
            line.duplicated,
            line.doctor
        );
    }
    line.rounds = line.struck;
    Ok(())
}

/// Waits for the import, and runs it again until it ends well. Whether it did.
async fn end(scene: &Scene, mut import: Running) -> Result<bool> {
    for _ in 0..RUNS {
        let status = import.exited(FINAL).await?;
        if status.success() {
            return Ok(true);
        }
        eprintln!("it ended with {status}: once more");
        import = scene.import("")?;
    }
    import.kill().await?;
    Ok(false)
}

/// Compares the contacts with those of an undisturbed import, and asks the doctor.
async fn judge(scene: &Scene, way: Way, ended: bool, line: &mut Line) -> Result<()> {
    if !ended {
        eprintln!("the import does not end");
        line.lost += 1;
    }
    let verdict = scene.verdict(way).await?;
    line.lost += verdict.lost;
    line.duplicated += verdict.duplicated;
    line.r#final += u32::from(ended && verdict.is_same);
    if ended && !verdict.is_same && verdict.lost + verdict.duplicated == 0 {
        eprintln!("the checksums differ");
        line.lost += 1;
    }
    for finding in &verdict.findings {
        eprintln!("doctor: {finding}");
    }
    line.doctor += verdict.findings.len();
    Ok(())
}
