//! Syncs of a Bsale into MariaDB and of BigQuery into PostgreSQL while things are killed, with a backfill beside them and records
//! of the quarantine that are read again: every run ends, the tables are the sources' row by row, the dashboards follow, no
//! stream is run twice at a time, and who takes over reads on in the dead one's query.

mod points;
mod scene;

use crate::aftermath;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scene::{Asked, Scene, Work};
use serde::Serialize;
use std::time::{Duration, Instant};

/// What is broken, each on servers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to all workers while streams are read.
    WorkerKill,
    /// PostgreSQL, which has the runs, stops as `-m immediate` does.
    PostgresKill,
    /// SIGKILL to MariaDB, which has the data.
    MariadbKill,
    /// SIGKILL to Redis, which has the buckets of requests.
    RedisOutage,
    /// SIGKILL to RabbitMQ.
    BrokerKill,
    /// One of five answers of both sources is none: an error, nothing, half of it, late, or results that have expired.
    SourceFaults,
    /// Every schedule falls due at once, before two workers of which one is killed.
    TwoSchedulers,
    /// A worker is stopped past its lease, and wakes up when another is at work on its streams.
    StalledWorker,
    /// Each failpoint, once.
    Failpoints,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker_kill",
            Self::PostgresKill => "postgres_kill",
            Self::MariadbKill => "mariadb_kill",
            Self::RedisOutage => "redis_outage",
            Self::BrokerKill => "broker_kill",
            Self::SourceFaults => "source_faults",
            Self::TwoSchedulers => "two_schedulers",
            Self::StalledWorker => "stalled_worker",
            Self::Failpoints => "failpoints",
        }
    }

    /// Whether it hit work.
    async fn strike(self, scene: &Scene, work: &Work) -> Result<bool> {
        let under_way = scene.is_under_way(work).await?;
        match self {
            Self::WorkerKill => scene.kill_workers().await?,
            Self::PostgresKill => scene.stack.postgres.kill().await?,
            Self::MariadbKill => scene.stack.mariadb.kill().await?,
            Self::RedisOutage => scene.stack.redis.kill().await?,
            Self::BrokerKill => scene.stack.rabbit.kill().await?,
            Self::SourceFaults => {
                scene.bsale.fail_one_in(5);
                scene.bigquery.fail_one_in(5);
            }
            Self::TwoSchedulers => scene.kill_a_worker().await?,
            Self::StalledWorker => return Ok(scene.stall_a_worker().await? && under_way),
            Self::Failpoints => {}
        }
        Ok(under_way)
    }

    async fn restore(self, scene: &mut Scene) -> Result<()> {
        match self {
            Self::WorkerKill | Self::TwoSchedulers => scene.restart_workers().await,
            Self::PostgresKill => scene.stack.postgres.start().await,
            Self::MariadbKill => scene.stack.mariadb.start().await,
            Self::RedisOutage => scene.stack.redis.start().await,
            Self::BrokerKill => scene.stack.rabbit.start().await,
            // Until the end of the round's runs.
            Self::SourceFaults | Self::StalledWorker | Self::Failpoints => Ok(()),
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
    /// Runs of streams.
    accepted: usize,
    /// Those that have completed.
    r#final: usize,
    /// Runs that have not, tables that are not the sources', and dashboards that do not follow.
    lost: usize,
    /// Runs of a stream beside another, more of them than were asked for, and queries that were begun twice.
    duplicated: usize,
    doctor: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_struck: Vec<&'static str>,
}

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn measure(case: Case, rounds: u32, seed: u64) -> Result<Line> {
    eprintln!("{}: starting servers and services", case.name());
    let mut scene = Scene::start(case.name(), seed).await?;
    let mut line = Line { chaos: "etl", case: case.name(), ..Line::default() };
    match case {
        Case::Failpoints => points::walk(&mut scene, &mut line).await?,
        _ => strikes(&mut scene, case, rounds, seed, &mut line).await?,
    }
    let findings = scene.findings().await?;
    line.doctor = aftermath::tell(case.name(), &findings);
    if line.struck == 0 {
        bail!("no round struck");
    }
    let clean = line.lost + line.duplicated + line.doctor == 0;
    scene.end(clean).await.context("remove the servers")?;
    Ok(line)
}

async fn strikes(scene: &mut Scene, case: Case, rounds: u32, seed: u64, line: &mut Line) -> Result<()> {
    // Round 0 is not disturbed: what goes wrong in it is a fault of this suite, and its length is that of the next.
    let started = Instant::now();
    let work = scene.ask(Asked::Both).await?;
    let span = settle(scene, &work, line).await? - started;
    ensure!(line.lost + line.duplicated == 0, "an undisturbed round went wrong");
    let mut tried = 0;
    while line.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", line.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        scene.live();
        let work = if case == Case::TwoSchedulers {
            scene.fall_due().await?
        } else {
            scene.ask(Asked::Both).await?
        };
        tokio::time::sleep(span.mul_f64(random.random_range(0.0..0.8))).await;
        let struck = case.strike(scene, &work).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        case.restore(scene).await?;
        settle(scene, &work, line).await?;
        scene.bsale.fail_one_in(0);
        scene.bigquery.fail_one_in(0);
        let again = scene.queries_begun_again(&work).await?;
        // Results that expire are the one reason to ask again.
        if again > 0 && case != Case::SourceFaults {
            eprintln!("{again} queries were begun again");
            line.duplicated += usize::try_from(again)?;
        }
        line.struck += u32::from(struck);
        eprintln!(
            "{} {tried}: {}, lost {}, duplicated {}",
            case.name(),
            if struck { "struck in mid-work" } else { "missed: once more" },
            line.lost,
            line.duplicated
        );
    }
    line.rounds = line.struck;
    Ok(())
}

/// Waits for the end of the work and counts what is wrong with it. Gives when the last run ended.
async fn settle(scene: &Scene, work: &Work, line: &mut Line) -> Result<Instant> {
    // Beside what goes on after the strike.
    scene.redrive().await?;
    let runs = scene.ended(work).await?;
    let ended = Instant::now();
    line.accepted += runs.len();
    line.r#final += runs.iter().filter(|run| run.has_completed()).count();
    for run in runs.iter().filter(|run| !run.has_completed()) {
        eprintln!("{} of {}: {}", run.state, run.lane, run.error);
        line.lost += 1;
    }
    for twice in scene.twice(work).await? {
        eprintln!("{twice}");
        line.duplicated += 1;
    }
    for checked in [scene.compare().await, scene.shown().await] {
        if let Err(error) = checked {
            eprintln!("{error:#}");
            line.lost += 1;
        }
    }
    Ok(ended)
}
