//! Reports while things are killed: every run ends complete, each file's rows are the table's, checksums are the
//! manifest's, and nothing unfinished stays in the bucket.

mod points;
mod scene;

use crate::aftermath;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scene::Scene;
use serde::Serialize;
use std::time::Duration;

/// What is broken, each on servers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to all workers while files are made.
    WorkerKill,
    /// S3 can't be reached for a while.
    S3Outage,
    /// PostgreSQL stops as `-m immediate` does.
    PostgresKill,
    /// SIGKILL to RabbitMQ.
    RabbitmqKill,
    /// SIGKILL to all workers while events arrive.
    IngestKill,
    /// Each failpoint, once.
    Failpoints,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker_kill",
            Self::S3Outage => "s3_outage",
            Self::PostgresKill => "postgres_kill",
            Self::RabbitmqKill => "rabbitmq_kill",
            Self::IngestKill => "ingest_kill",
            Self::Failpoints => "failpoints",
        }
    }

    async fn strike(self, scene: &Scene) -> Result<()> {
        match self {
            Self::WorkerKill | Self::IngestKill => scene.kill_workers().await,
            Self::S3Outage => {
                scene.aws.cut().await;
                Ok(())
            }
            Self::PostgresKill => scene.stack.postgres.kill().await,
            Self::RabbitmqKill => scene.stack.rabbit.kill().await,
            Self::Failpoints => Ok(()),
        }
    }

    async fn restore(self, scene: &mut Scene) -> Result<()> {
        match self {
            Self::WorkerKill | Self::IngestKill => scene.restart_workers().await,
            Self::S3Outage => {
                scene.aws.heal().await;
                Ok(())
            }
            Self::PostgresKill => scene.stack.postgres.start().await,
            Self::RabbitmqKill => scene.stack.rabbit.start().await,
            Self::Failpoints => Ok(()),
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
    /// Runs, or campaigns that were told of.
    accepted: u32,
    r#final: u32,
    lost: usize,
    duplicated: usize,
    stray_uploads: usize,
    doctor: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_struck: Vec<&'static str>,
}

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn measure(case: Case, rounds: u32, seed: u64) -> Result<Line> {
    let mut scene = Scene::start(case.name()).await?;
    let mut line = Line { chaos: "report", case: case.name(), ..Line::default() };
    match case {
        Case::Failpoints => points::walk(&mut scene, &mut line).await?,
        _ => strikes(&mut scene, case, rounds, seed, &mut line).await?,
    }
    line.stray_uploads = scene.stray_uploads().await?;
    let findings = scene.findings().await?;
    line.doctor = aftermath::tell(case.name(), &findings);
    if line.struck == 0 {
        bail!("no round struck");
    }
    let clean = line.lost + line.duplicated + line.stray_uploads + line.doctor == 0;
    scene.end(clean).await.context("remove the servers")?;
    Ok(line)
}

async fn strikes(scene: &mut Scene, case: Case, rounds: u32, seed: u64, line: &mut Line) -> Result<()> {
    let mut tried = 0;
    while line.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", line.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let (work, telling) = if case == Case::IngestKill {
            let (work, telling) = scene.tell(tried)?;
            (work, Some(telling))
        } else {
            (scene.ask().await?, None)
        };
        tokio::time::sleep(scene.span(case).mul_f64(random.random_range(0.0..1.0))).await;
        let under_way = scene.is_under_way(&work).await?;
        case.strike(scene).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        case.restore(scene).await?;
        if let Some(telling) = telling {
            telling.await??;
        }
        let struck = settle(scene, &work, line).await? && under_way;
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

/// Waits for the end of the work and counts what is wrong with it. Whether it ended.
async fn settle(scene: &Scene, work: &scene::Work, line: &mut Line) -> Result<bool> {
    line.accepted += 1;
    let verdict = match scene.verdict(work).await {
        Ok(verdict) => verdict,
        Err(error) => {
            eprintln!("{error:#}");
            line.lost += 1;
            return Ok(false);
        }
    };
    for difference in verdict.lost.iter().chain(&verdict.duplicated).take(10) {
        eprintln!("{difference}");
    }
    line.r#final += u32::from(verdict.is_exact());
    line.lost += verdict.lost.len();
    line.duplicated += verdict.duplicated.len();
    Ok(true)
}
