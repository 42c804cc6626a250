//! Campaigns of SMS while things are killed: two at once over the same phones, with opt-outs committed meanwhile. By the record
//! of the provider's simulator each recipient has one message or a reason why not, and totals and report's table are the
//! ledger.

mod account;
mod points;
mod scene;
mod storm;

use crate::aftermath;
use account::Account;
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scene::{IN_FLIGHT, Round, Scene, WORKERS};
use serde::Serialize;
use std::time::Duration;

/// Whom a round's two campaigns write to.
const PEOPLE: i64 = 1_500;

/// What is broken, each on servers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to all workers, with requests in flight.
    WorkerKill,
    /// A worker is stopped past its lease, every second time also past the deadlines of its requests, and wakes when another
    /// has its slices.
    WorkerFreeze,
    /// SIGKILL to the API, which takes the webhooks.
    ApiKill,
    /// PostgreSQL stops as `-m immediate` does.
    PostgresKill,
    /// SIGKILL to RabbitMQ.
    RabbitmqKill,
    /// SIGKILL to Redis, which has the buckets of the rates.
    RedisKill,
    /// The provider loses one of a hundred answers after it accepted, and sends one of ten reports twice and one of ten before
    /// its forerunner.
    ProviderFaults,
    /// Each failpoint of the sending path, once.
    Failpoints,
    /// Two large campaigns, and thirty of all these strikes.
    Storm,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker_kill",
            Self::WorkerFreeze => "worker_freeze",
            Self::ApiKill => "api_kill",
            Self::PostgresKill => "postgres_kill",
            Self::RabbitmqKill => "rabbitmq_kill",
            Self::RedisKill => "redis_kill",
            Self::ProviderFaults => "provider_faults",
            Self::Failpoints => "failpoints",
            Self::Storm => "storm",
        }
    }

    /// How many workers die of a strike: of what they had announced and not yet asked for nobody knows. A worker that lives takes
    /// back what it does not ask for, however long it was stopped or the database away.
    fn kills(self) -> usize {
        if self == Self::WorkerKill { WORKERS } else { 0 }
    }

    /// Whether it hit work.
    async fn strike(self, scene: &Scene, round: &Round, random: &mut StdRng) -> Result<bool> {
        let under_way = scene.is_under_way(round).await?;
        match self {
            Self::WorkerKill => scene.kill_workers().await?,
            Self::WorkerFreeze => {
                let long = random.random_bool(0.5);
                return Ok(scene.freeze_a_worker(long).await? && under_way);
            }
            Self::ApiKill => scene.kill_api().await?,
            Self::PostgresKill => scene.stack.postgres.kill().await?,
            Self::RabbitmqKill => scene.stack.rabbit.kill().await?,
            Self::RedisKill => scene.stack.redis.kill().await?,
            // Whether it did is seen at the end of the round, by the provider's own count.
            Self::ProviderFaults | Self::Failpoints | Self::Storm => {}
        }
        Ok(under_way)
    }

    async fn restore(self, scene: &mut Scene) -> Result<()> {
        match self {
            Self::WorkerKill => scene.restart_workers().await,
            Self::ApiKill => scene.restart_api().await,
            Self::PostgresKill => scene.stack.postgres.start().await,
            Self::RabbitmqKill => scene.stack.rabbit.start().await,
            Self::RedisKill => scene.stack.redis.start().await,
            Self::WorkerFreeze | Self::ProviderFaults | Self::Failpoints | Self::Storm => Ok(()),
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
    /// Workers that died.
    #[serde(skip)]
    killed: usize,
    /// Recipients of campaigns.
    accepted: usize,
    /// Those that the provider has one message of, or that were not sent to for a reason, as the ledger says.
    r#final: usize,
    /// Recipients of whom the ledger says something else than the provider's record, or that never ended.
    lost: usize,
    /// Messages that the provider accepted more than once for one campaign and phone, by its record.
    duplicated: usize,
    /// Of which nobody knew whether they went out, after all webhooks and records had come; the provider has none of them.
    unknown: usize,
    unknown_at_most: usize,
    /// The unknowns, which a person had sent again.
    resent: usize,
    /// Messages that were submitted after a suppression of their phone was committed.
    after_opt_out: usize,
    /// How many milliseconds after its opt-out was committed the latest message to a phone was accepted, which was submitted
    /// before.
    opt_out_late_ms: i64,
    /// Phones that the provider has messages of both campaigns for.
    over_cap: usize,
    /// Looks at totals that were not the ledger's in the same snapshot; rows of report's table that are not the ledger's.
    totals: usize,
    report: usize,
    doctor: usize,
    /// What the case had to do with: answers that were lost, opt-outs that were committed while messages were sent, recipients
    /// that were not sent to because of one and because the other campaign had their turn, and looks at totals.
    lost_answers: usize,
    opt_outs: usize,
    opted_out: usize,
    capped: usize,
    looks: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_struck: Vec<String>,
}

impl Line {
    fn new(case: Case) -> Self {
        Self { chaos: "dispatch", case: case.name(), ..Self::default() }
    }

    fn is_clean(&self) -> bool {
        let wrong =
            self.lost + self.duplicated + self.after_opt_out + self.over_cap + self.totals + self.report;
        // A point that nothing dies at proves nothing.
        wrong + self.doctor + self.not_struck.len() == 0 && self.unknown <= self.unknown_at_most
    }
}

/// Strikes at random moments until `rounds` of them were in the middle of work.
pub async fn measure(case: Case, rounds: u32, seed: u64) -> Result<Line> {
    eprintln!("{}: starting servers and services", case.name());
    let mut scene = Scene::start(case.name()).await?;
    let mut line = Line::new(case);
    let all = match case {
        Case::Failpoints => points::walk(&mut scene, &mut line).await?,
        Case::Storm => storm::rage(&mut scene, seed, &mut line).await?,
        _ => strikes(&mut scene, case, rounds, seed, &mut line).await?,
    };
    if line.struck == 0 {
        bail!("no round struck");
    }
    line.unknown_at_most = line.killed * IN_FLIGHT;
    Account::settle(&mut scene, &all, &mut line).await?;
    // Where nobody opts out in time, and no two campaigns meet, nothing is shown of either.
    let (opted_out, capped) = (line.opted_out, line.capped);
    ensure!(opted_out > 0 && capped > 0, "{opted_out} opted out in time, {capped} had the other's message");
    let findings = scene.findings().await?;
    line.doctor = aftermath::tell(case.name(), &findings);
    scene.end(line.is_clean()).await.context("remove the servers")?;
    Ok(line)
}

async fn strikes(
    scene: &mut Scene,
    case: Case,
    rounds: u32,
    seed: u64,
    line: &mut Line,
) -> Result<Vec<Round>> {
    // Round 0 is not disturbed: what goes wrong in it is a fault of this suite.
    let mut all = vec![scene.begin(0, PEOPLE).await?];
    scene.ended(&mut all[0]).await?;
    if case == Case::ProviderFaults {
        scene.misbehave(seed).await?;
    }
    let mut tried = 0;
    while line.struck < rounds {
        ensure!(tried < rounds * 5 + 10, "{tried} rounds, and only {} struck in mid-work", line.struck);
        tried += 1;
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003) ^ u64::from(tried));
        let lost_before = scene.summary().await?.lost_answers;
        let mut round = scene.begin(tried, PEOPLE).await?;
        scene.reached(&round, random.random_range(0.0..0.7)).await?;
        // Not always when the same step of the same batch was just committed.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        let mut struck = case.strike(scene, &round, &mut random).await?;
        line.killed += case.kills();
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        case.restore(scene).await?;
        scene.ended(&mut round).await?;
        if case == Case::ProviderFaults {
            struck = scene.summary().await?.lost_answers > lost_before;
        }
        all.push(round);
        line.struck += u32::from(struck);
        eprintln!(
            "{} {tried}: {}, {} messages",
            case.name(),
            if struck { "struck in mid-work" } else { "missed: once more" },
            scene.summary().await?.accepted,
        );
    }
    line.rounds = line.struck;
    Ok(all)
}
