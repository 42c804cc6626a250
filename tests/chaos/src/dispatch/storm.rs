//! Two large campaigns, and everything dies again and again until they end.

use super::scene::{Round, Scene, WORKERS};
use super::{Case, Line};
use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// Whom each of the two campaigns writes to.
const PEOPLE: i64 = 10_000;
const STRIKES: u32 = 30;

/// What a storm strikes with, workers more often than the rest.
const CASES: [Case; 8] = [
    Case::WorkerKill,
    Case::WorkerKill,
    Case::WorkerFreeze,
    Case::WorkerFreeze,
    Case::ApiKill,
    Case::PostgresKill,
    Case::RabbitmqKill,
    Case::RedisKill,
];

/// Strikes until that was so often, or the campaigns have ended.
pub async fn rage(scene: &mut Scene, seed: u64, line: &mut Line) -> Result<Vec<Round>> {
    let mut random = StdRng::seed_from_u64(seed);
    scene.misbehave(seed).await?;
    let mut round = scene.begin(1, PEOPLE).await?;
    scene.sending(&round).await?;
    let mut tried = 0;
    while line.struck < STRIKES && scene.is_running(&round).await? {
        tried += 1;
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2_500))).await;
        let case = CASES[random.random_range(0..CASES.len())];
        let one = case == Case::WorkerKill && random.random_bool(0.5);
        let struck = match one {
            true => scene.kill_a_worker(random.random_range(0..WORKERS)).await.map(|()| true),
            false => case.strike(scene, &round, &mut random).await,
        };
        let struck = struck.with_context(|| case.name())?;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        case.restore(scene).await.with_context(|| case.name())?;
        line.struck += u32::from(struck);
        line.killed += u32::from(case.kills_workers());
        eprintln!("storm {tried}: {} {}", case.name(), if struck { "struck" } else { "missed" });
    }
    line.rounds = 1;
    scene.ended(&mut round).await?;
    Ok(vec![round])
}
