//! Two large campaigns, and everything dies again and again until they end.

use super::scene::{Round, Scene, WORKERS};
use super::{Case, Line};
use anyhow::{Context, Result, ensure};
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

/// Strikes until that was so often. Campaigns that end before are followed by others.
pub async fn rage(scene: &mut Scene, seed: u64, line: &mut Line) -> Result<Vec<Round>> {
    let mut random = StdRng::seed_from_u64(seed);
    scene.misbehave(seed).await?;
    let (mut all, mut tried) = (Vec::new(), 0);
    let mut round = scene.begin(1, PEOPLE).await?;
    scene.sending(&round).await?;
    while line.struck < STRIKES {
        ensure!(tried < STRIKES * 5, "{tried} strikes, and only {} in mid-work", line.struck);
        tried += 1;
        if !scene.is_running(&round).await? {
            scene.ended(&mut round).await?;
            all.push(round);
            round = scene.begin(1 + all.len() as u32, PEOPLE).await?;
            scene.sending(&round).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(500..2_500))).await;
        let case = CASES[random.random_range(0..CASES.len())];
        let one = case == Case::WorkerKill && random.random_bool(0.5);
        let struck = match one {
            true => {
                let under_way = scene.is_under_way(&round).await?;
                scene.kill_a_worker(random.random_range(0..WORKERS)).await.map(|()| under_way)
            }
            false => case.strike(scene, &round, &mut random).await,
        };
        let struck = struck.with_context(|| case.name())?;
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        case.restore(scene).await.with_context(|| case.name())?;
        line.struck += u32::from(struck);
        line.killed += if one { 1 } else { case.kills() };
        eprintln!("storm {tried}: {} {}", case.name(), if struck { "struck" } else { "missed" });
    }
    scene.ended(&mut round).await?;
    all.push(round);
    line.rounds = all.len() as u32;
    Ok(all)
}
